//! The program in a network's holder, which waits and nothing else, as an image that needs no registry.

/// Found by this name on the engine; made when it is not there.
pub(super) const IMAGE: &str = "steppe/infra:1";
pub(super) const PROGRAM: &str = "/pause";

const BASE: u64 = 0x0040_0000;
const HEADERS: usize = 64 + 56;
/// ELF's numbers for the processors.
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

/// The image's files as a tar archive; `None`: no code for this processor.
pub(super) fn archive() -> Option<Vec<u8>> {
    let program = match std::env::consts::ARCH {
        // mov eax, 34 (pause); syscall; again
        "x86_64" => elf(X86_64, &[0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]),
        // ppoll(0, 0, 0, 0, 0), again
        "aarch64" => {
            let code: [u32; 8] = [
                0xd280_0000,
                0xd280_0001,
                0xd280_0002,
                0xd280_0003,
                0xd280_0004,
                0xd280_0928,
                0xd400_0001,
                0x17ff_fff9,
            ];
            elf(AARCH64, &code.map(u32::to_le_bytes).concat())
        }
        _ => return None,
    };
    Some(tar(PROGRAM.trim_start_matches('/'), &program))
}

/// A program of one segment that begins right behind the headers.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let size = (HEADERS + code.len()) as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS as u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // To be loaded, read and run.
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// One program in the old tar format.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut file = header.to_vec();
    file.extend(content);
    // To the end of the block, and two empty ones.
    file.resize(file.len().next_multiple_of(512) + 1024, 0);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn the_program_waits_until_it_is_killed() {
        let Some(files) = archive() else { return };
        let size = usize::from_str_radix(std::str::from_utf8(&files[124..135]).unwrap(), 8).unwrap();
        let path = std::env::temp_dir().join(format!("steppe-pause-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&files[512..512 + size]).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        drop(file);
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // Asleep as itself, not as what it was before `exec`.
        while !std::fs::read_to_string(&stat).is_ok_and(|text| text.contains("(steppe-pause") && text.contains(") S "))
        {
            assert!(child.try_wait().unwrap().is_none() && std::time::Instant::now() < until);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        std::fs::remove_file(&path).unwrap();
    }
}
