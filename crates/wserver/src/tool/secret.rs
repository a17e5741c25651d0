//! Keys and tokens from files, standard input and the environment.

use std::io::{self, Read};
use std::path::Path;
use std::{env, fs};

use anyhow::{Context, anyhow};

use wserver_auth::{invisible_character, without_byte_order_mark};

use super::outcome::Failure;

/// A longer input is not a secret but the wrong file.
const BYTES_MAX: usize = 64 << 10;

/// The secret in `file`, or else in the environment variable `variable`; `None` if neither is set.
///
/// `-` means standard input. Surrounding white space is removed.
///
/// # Errors
/// When the file cannot be read or is empty, or the variable is not UTF-8.
pub(super) fn secret(file: Option<&Path>, variable: &str) -> Result<Option<String>, Failure> {
    let (text, place) = match (file, env::var_os(variable)) {
        (Some(file), _) => {
            let place = file.display().to_string();
            (read(file).with_context(|| place.clone()).map_err(Failure::Usage)?, place)
        }
        (None, Some(text)) => {
            let text = text.into_string().map_err(|_holds_it| {
                Failure::Usage(anyhow!("{variable} in the environment is not UTF-8"))
            })?;
            (text, format!("{variable} in the environment"))
        }
        (None, None) => return Ok(None),
    };
    if text.len() >= BYTES_MAX {
        return Err(Failure::Usage(anyhow!(
            "{place} has {BYTES_MAX} bytes or more, which is too long for a secret"
        )));
    }
    let text = without_byte_order_mark(&text).trim();
    if let Some(character) = invisible_character(text) {
        let code = u32::from(character);
        return Err(Failure::Usage(anyhow!(
            "{place} contains the invisible character U+{code:04X}"
        )));
    }
    match text {
        "" => Err(Failure::Usage(anyhow!("{place} is empty"))),
        secret => Ok(Some(secret.to_owned())),
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes_max = BYTES_MAX as u64;
    if file == Path::new("-") {
        io::stdin().take(bytes_max).read_to_string(&mut text)?;
    } else {
        fs::File::open(file)?.take(bytes_max).read_to_string(&mut text)?;
    }
    Ok(text)
}
