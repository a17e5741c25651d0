//! Reads files that settings name, so that no kind of file can block the server for ever or fill
//! its memory.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Reads the file that a setting names, as the server reads those of TLS: a regular file, also
/// through symbolic links, of at most `bytes_max` bytes.
///
/// Pipes and devices are refused before they are opened, because they could be read only once,
/// would wait for a writer, or never end. A file system that does not answer still blocks the call,
/// so do not call it on a thread that has other work.
///
/// # Errors
/// If the file cannot be read, is not a regular file, or is larger.
pub fn read_regular_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    check(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    // The path may now lead to another file.
    check(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!(
            "it is longer than {bytes_max} bytes, the limit for such a file"
        )));
    }
    Ok(bytes)
}

fn check(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        // For a directory, the system reports the error itself.
        return Ok(());
    };
    Err(io::Error::other(format!(
        "it is {what}, but must be a regular file, so that it can be read again when it changes"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str) -> String {
        read_regular_file(Path::new(path), 8).unwrap_err().to_string()
    }

    #[test]
    fn what_has_no_end_is_not_begun() {
        assert!(told("/dev/zero").contains("it is a device"), "{}", told("/dev/zero"));
        assert!(told("/").contains("Is a directory"), "{}", told("/"));
        assert!(told("/no/such").contains("No such file"), "{}", told("/no/such"));
    }

    #[test]
    fn a_pipe_waits_for_no_writer() {
        let path = std::env::temp_dir().join(format!("wserver-pipe-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let (answer, read) = std::sync::mpsc::sync_channel(1);
        let pipe = path.clone();
        std::thread::spawn(move || answer.send(told(pipe.to_str().unwrap())));
        let told = read.recv_timeout(std::time::Duration::from_secs(60));
        fs::remove_file(&path).unwrap();
        let told = told.expect("nobody waits for a writer");
        assert!(told.contains("it is a pipe, but must be a regular file"), "{told}");
    }

    #[test]
    fn a_large_file_is_refused_with_its_limit() {
        let path = std::env::temp_dir().join(format!("wserver-large-{}", std::process::id()));
        fs::write(&path, "12345678").unwrap();
        let fits = read_regular_file(&path, 8).unwrap();
        fs::write(&path, "123456789").unwrap();
        let told = told(path.to_str().unwrap());
        fs::remove_file(&path).unwrap();
        assert_eq!(fits, b"12345678");
        assert!(told.contains("longer than 8 bytes"), "{told}");
    }
}
