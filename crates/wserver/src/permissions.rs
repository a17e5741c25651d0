//! Files whose permissions give access to more users of the machine than they should.

use std::os::unix::fs::PermissionsExt as _;

use crate::files;
use crate::settings::{Loaded, Shape};

/// The settings whose files hold secrets.
const SECRETS: [&str; 9] = [
    "callback_secret_file",
    "cluster_credentials_file",
    "cluster_password_file",
    "jwt_secret_file",
    "private_tls_key_file",
    "push_jwt_secret_file",
    "push_key_file",
    "tls_key_file",
    "tokens_file",
];

/// Every user of the machine can read the file.
const OTHERS_READ: u32 = 0o004;

/// Every user of the machine can write the file.
const OTHERS_WRITE: u32 = 0o002;

/// Warnings about the files that the settings name, one sentence each.
pub(crate) fn doubtful(loaded: &Loaded) -> Vec<String> {
    let config = loaded.config.iter().map(|path| ("config", path.as_path()));
    let named = loaded.effective.iter().filter(|it| it.definition.form.shape == Shape::File);
    let named = named.filter_map(|it| Some((it.definition.name, it.file.as_deref()?)));
    let told = config.chain(named).filter_map(|(name, path)| {
        let mode = files::metadata(path).ok()?.permissions().mode();
        let (who, mode) = if mode & OTHERS_WRITE != 0 {
            ("change", "o-w")
        } else if mode & OTHERS_READ != 0 && SECRETS.contains(&name) {
            ("read", "o-rwx")
        } else {
            return None;
        };
        let path = path.display();
        Some(format!("{name} {path}: every user of this machine may {who} it (chmod {mode})"))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::definitions;

    #[test]
    fn secrets_are_settings_of_files() {
        for name in SECRETS {
            let definition = definitions().find(|it| it.name == name).expect(name);
            assert_eq!(definition.form.shape, Shape::File, "{name}");
        }
        let others: Vec<&str> = definitions()
            .filter(|it| it.form.shape == Shape::File && !SECRETS.contains(&it.name))
            .map(|it| it.name)
            .filter(|name| {
                !["certificate", "ca", "public_key", "jwks"].iter().any(|it| name.contains(it))
            })
            .collect();
        assert!(others.is_empty(), "a secret, or none? {others:?}");
    }
}
