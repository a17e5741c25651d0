//! TLS: the files of each listener.

use std::path::PathBuf;

use wserver_warp::TlsSettings;

use crate::access::Contents;
use crate::settings::{Problem, Settings};

/// The names of one listener's TLS settings: certificate, key, authorities of clients.
type Names = [&'static str; 3];

type Files<'a> = [&'a Option<PathBuf>; 3];

const PUBLIC: Names = ["tls_certificate_file", "tls_key_file", "tls_client_ca_file"];

const PRIVATE: Names =
    ["private_tls_certificate_file", "private_tls_key_file", "private_client_ca_file"];

fn public_files(settings: &Settings) -> Files<'_> {
    [&settings.tls_certificate_file, &settings.tls_key_file, &settings.tls_client_ca_file]
}

fn private_files(settings: &Settings) -> Files<'_> {
    [
        &settings.private_tls_certificate_file,
        &settings.private_tls_key_file,
        &settings.private_client_ca_file,
    ]
}

/// The TLS of the public listener, if it speaks TLS.
pub(super) fn public(settings: &Settings) -> Result<Option<TlsSettings>, Problem> {
    tls(PUBLIC, public_files(settings))
}

/// The TLS of the private listener, if there is one and it speaks TLS.
pub(super) fn private(
    settings: &Settings,
    has_private: bool,
) -> Result<Option<TlsSettings>, Problem> {
    match tls(PRIVATE, private_files(settings))? {
        Some(_) if !has_private => {
            let [certificate_name, ..] = PRIVATE;
            let words = format!("{certificate_name} needs a private_address");
            Err(Problem::new([certificate_name], words))
        }
        tls => Ok(tls),
    }
}

/// Notes the content of the certificates' files. The server reports what is wrong with them.
pub(super) fn note(settings: &Settings, contents: &mut Contents) {
    let named = [
        PUBLIC.into_iter().zip(public_files(settings)),
        PRIVATE.into_iter().zip(private_files(settings)),
    ];
    for (name, file) in named.into_iter().flatten() {
        if let Some(file) = file {
            contents.note(name, file);
        }
    }
}

fn tls(names: Names, files: Files<'_>) -> Result<Option<TlsSettings>, Problem> {
    let [certificate_name, key_name, client_ca_name] = names;
    match files {
        [Some(certificate), Some(key), client_ca] => {
            let tls = TlsSettings::files(certificate, key);
            Ok(Some(match client_ca {
                Some(client_ca) => tls.client_ca_file(client_ca),
                None => tls,
            }))
        }
        [None, None, None] => Ok(None),
        [Some(_), None, _] => Err(Problem::new(
            [certificate_name],
            format!("{certificate_name} is set, but {key_name} is missing"),
        )),
        [None, Some(_), _] => Err(Problem::new(
            [key_name],
            format!("{key_name} is set, but {certificate_name} is missing"),
        )),
        [None, None, Some(_)] => Err(Problem::new(
            [client_ca_name],
            format!("{client_ca_name} needs {certificate_name} and {key_name}"),
        )),
    }
}
