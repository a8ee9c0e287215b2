//! `cargo run -p xtask -- specs`: writes openapi/*.json from the handlers; `-- config-docs`: writes
//! docs/configuration.md from the settings' types.

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("specs") => {
            for (service, text) in xtask::specs::generate()? {
                let path = xtask::specs::path(service);
                std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            }
            Ok(())
        }
        Some("config-docs") => {
            let path = xtask::config_docs();
            std::fs::write(&path, config::docs::markdown()).with_context(|| format!("writing {}", path.display()))
        }
        _ => anyhow::bail!("usage: xtask specs | config-docs"),
    }
}
