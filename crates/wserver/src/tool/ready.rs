//! `wserver ready`: says by its exit code whether a server is ready for clients.
//!
//! A health check knows no URL, and should not need one: this tool asks at the address where a
//! server with the same settings listens.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::error::ErrorKind;
use clap::{Args, Command};
use wserver_client::Api;

use super::outcome::{Failure, Outcome};
use super::output::line;
use super::target::{Authorities, Scheme, endpoint};
use crate::flags;
use crate::settings::{Settings, Sources};

/// Ask a server whether it is ready, for example as the health check of a container
#[derive(Debug, Args)]
#[command(after_help = "\
Without --url it asks on this machine, at the address where a server with the same settings listens.
It takes the settings from the environment, from the file that --config or WSERVER_CONFIG names, and
from flags: every flag of `wserver` is also a flag of `wserver ready`. Over TLS it accepts the
certificate of the settings, whatever its name. It does not find a socket that systemd bound, because
the settings do not contain it.
It needs no key. Exit codes: 0 the server is ready, 1 it is not ready or does not answer, 64 bad
arguments.")]
pub(crate) struct Arguments {
    /// URL of the server, http or https
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    authorities: Authorities,
    /// Use the flags of the server with this process id, which is 1 in a container
    #[arg(long, value_name = "PID", conflicts_with = "url")]
    pid: Option<u32>,
}

/// `whole` is the command line of this program, which reads that of a process.
pub(super) async fn run(arguments: Arguments, sources: Sources, whole: Command) -> Outcome {
    let Arguments { url, authorities, pid } = arguments;
    let destination = match url {
        Some(url) => Destination::at(url),
        None => {
            let sources = match pid {
                Some(pid) => of_process(pid, whole).map_err(Failure::Usage)?,
                None => sources,
            };
            let loaded = sources.load().map_err(|problems| {
                Failure::Usage(anyhow!("the settings are wrong: {}", problems.join("; ")))
            })?;
            Destination::of(&loaded.settings).map_err(Failure::Usage)?
        }
    };
    let mut api = destination.api()?;
    if let Some(authorities) = authorities.read()? {
        api = api.with_ca_pem(&authorities).map_err(Failure::usage)?;
    }
    api.ready().await.with_context(|| destination.to_string())?;
    line("ready")?;
    Ok(ExitCode::SUCCESS)
}

/// The server to ask, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    url: String,
    unix_socket: Option<PathBuf>,
    /// The file with the server's own certificate.
    certificate: Option<PathBuf>,
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.unix_socket {
            Some(path) => write!(f, "asked at {}", path.display()),
            None => write!(f, "asked at {}", self.url),
        }
    }
}

impl Destination {
    fn at(url: String) -> Self {
        Self { url, unix_socket: None, certificate: None }
    }

    /// The listener of a server with these settings that is easiest to ask.
    fn of(settings: &Settings) -> anyhow::Result<Self> {
        let public = Some(("address", &settings.address));
        let private = settings.private_address.as_ref().map(|it| ("private_address", it));
        let doors = [
            (public, &settings.tls_certificate_file, &settings.tls_client_ca_file),
            (private, &settings.private_tls_certificate_file, &settings.private_client_ca_file),
        ];
        for (address, certificate, _) in doors {
            if let (Some((name, address)), None) = (address, certificate) {
                return Self::plain(name, address);
            }
        }
        for (address, certificate, client_ca) in doors {
            if let (Some((name, address)), Some(certificate), None) =
                (address, certificate, client_ca)
            {
                let url = format!("https://{}", from_here(name, address)?);
                return Ok(Self { certificate: Some(certificate.clone()), ..Self::at(url) });
            }
        }
        bail!(
            "every address in the settings demands client certificates, so none can be checked; \
               name the server with --url"
        )
    }

    fn plain(name: &str, address: &str) -> anyhow::Result<Self> {
        Ok(match address.strip_prefix("unix:") {
            Some(path) => {
                let destination = Self::at("http://localhost".to_owned());
                Self { unix_socket: Some(path.into()), ..destination }
            }
            None => Self::at(format!("http://{}", from_here(name, address)?)),
        })
    }

    fn api(&self) -> Result<Api, Failure> {
        let url = endpoint(&self.url, Scheme::Http, "/").map_err(Failure::Usage)?;
        let mut api = Api::new(&url).map_err(Failure::usage)?;
        if let Some(path) = &self.unix_socket {
            api = api.with_unix_socket(path);
        }
        if let Some(file) = &self.certificate {
            let pem = fs::read(file).with_context(|| format!("{}", file.display()))?;
            api = api.with_server_certificate_pem(&pem).map_err(Failure::usage)?;
        }
        Ok(api)
    }
}

/// The URL at which this machine reaches a server that listens at `address`, the setting `name`.
fn from_here(name: &str, address: &str) -> anyhow::Result<String> {
    let (host, port) = address.rsplit_once(':').with_context(|| format!("{name} has no port"))?;
    if port == "0" {
        bail!("{name} is {address}, so the system chooses the port: name the server with --url");
    }
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Ok(format!("{host}:{port}"))
}

/// The settings that the command line of a process gives, over the environment of this one.
fn of_process(pid: u32, whole: Command) -> anyhow::Result<Sources> {
    let path = format!("/proc/{pid}/cmdline");
    let words = fs::read(&path).with_context(|| path)?;
    let words = words.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    // The container's init can come before it.
    let is_ours = |word: &OsString| Path::new(word).file_name().is_some_and(|it| it == "wserver");
    let mut words: Vec<OsString> = words.skip_while(|word| !is_ours(word)).collect();
    // Each word ends in the separator, so the last one is empty.
    words.pop();
    let what = || format!("process {pid} is not a wserver process");
    if words.is_empty() {
        bail!(what());
    }
    server_sources(words, whole).with_context(what)
}

/// The settings that the words of a server's command line give, and no other command's.
fn server_sources(words: Vec<OsString>, whole: Command) -> Result<Sources, clap::Error> {
    let matches = whole.try_get_matches_from(words)?;
    match matches.subcommand_name() {
        None => Ok(flags::sources(&matches)),
        Some(_) => Err(clap::Error::new(ErrorKind::InvalidSubcommand)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Loaded;

    #[test]
    fn it_is_asked_where_the_settings_say() {
        let at = |url: &str| Destination::at(url.to_owned());
        let pem = || Some(PathBuf::from("/c.pem"));
        type Change = fn(&mut Settings);
        let cases: [(Change, Result<Destination, &str>); 9] = [
            (|_| {}, Ok(at("http://127.0.0.1:12345"))),
            (|it| it.address = ":9000".to_owned(), Ok(at("http://127.0.0.1:9000"))),
            (|it| it.address = "[::]:9000".to_owned(), Ok(at("http://[::1]:9000"))),
            (|it| it.address = "10.0.0.5:80".to_owned(), Ok(at("http://10.0.0.5:80"))),
            (|it| it.address = "127.0.0.1:0".to_owned(), Err("--url")),
            (
                |it| it.tls_certificate_file = Some("/c.pem".into()),
                Ok(Destination { certificate: pem(), ..at("https://127.0.0.1:12345") }),
            ),
            (
                |it| {
                    it.tls_certificate_file = Some("/c.pem".into());
                    it.private_address = Some(":9001".to_owned());
                },
                Ok(at("http://127.0.0.1:9001")),
            ),
            (
                |it| {
                    it.tls_certificate_file = Some("/c.pem".into());
                    it.private_address = Some("unix:/run/w.sock".to_owned());
                },
                Ok(Destination {
                    unix_socket: Some("/run/w.sock".into()),
                    ..at("http://localhost")
                }),
            ),
            (
                |it| {
                    it.tls_certificate_file = Some("/c.pem".into());
                    it.tls_client_ca_file = Some("/ca.pem".into());
                },
                Err("certificate"),
            ),
        ];
        for (change, expected) in cases {
            let mut settings = Loaded::defaults().settings;
            change(&mut settings);
            match (Destination::of(&settings), expected) {
                (Ok(destination), Ok(expected)) => assert_eq!(destination, expected),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
