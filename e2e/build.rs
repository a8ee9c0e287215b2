//! Tells the golden test whether the recordings it replays are here: they lie beside the checkout.

use std::path::Path;

fn main() {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference/golden/compare.py");
    println!("cargo:rustc-check-cfg=cfg(golden_recordings)");
    println!("cargo:rerun-if-changed={}", recordings.display());
    if recordings.exists() {
        println!("cargo:rustc-cfg=golden_recordings");
    }
}
