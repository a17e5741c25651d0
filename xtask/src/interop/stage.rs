//! The setups of the server for the clients: plain, with TLS, with a private listener, with the
//! keys of an issuer, or in a cluster; and what the client is told about the setup.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::poll::{START_TIMEOUT, poll};
use crate::address::free_address;

/// One way to set the server up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// One port for all.
    Plain,
    /// The defaults: without a key, pushes have a separate port.
    Apart,
    /// With a certificate.
    Tls,
    /// With a certificate, and pushes on a separate listener, by client certificates.
    Private,
    /// The defaults, with certificates for a proxy in front whose configuration is not for this
    /// server.
    Proxied,
    /// Behind proxies that it trusts, with certificates for them; it pings often, and allows one
    /// connection for each address.
    Trusting,
    /// With the keys of an issuer.
    Issuer,
    /// The only node of a cluster, so that it reports everything it can report.
    Clustered,
}

/// The setup: flags for the server, variables for the client.
#[derive(Debug, Default)]
pub(super) struct Scene {
    pub(super) https: bool,
    /// Whether the server takes pushes where browsers connect, although they need no key.
    pub(super) has_open_push: bool,
    pub(super) flags: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// The broker that the server needs.
    broker: Option<Broker>,
}

impl Stage {
    /// The suffix of the client's name, if it does not run only at the plain stage.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Plain | Self::Proxied | Self::Trusting | Self::Issuer | Self::Clustered => "",
            Self::Apart => " on two ports",
            Self::Tls | Self::Private => " over TLS",
        }
    }

    /// Sets the stage up. `keys` is where the issuer has put its files, a folder of its name.
    pub(super) fn scene(
        self,
        certificates: Option<&Certificates>,
        keys: &Path,
    ) -> anyhow::Result<Scene> {
        let is_apart = matches!(self, Self::Apart | Self::Proxied);
        let mut scene =
            Scene { https: self.speaks_tls(), has_open_push: !is_apart, ..Scene::default() };
        if is_apart {
            // The server would choose a port by itself; this one is free.
            let address = free_address()?.to_string();
            scene.variable("PRIVATE_ORIGIN", format!("http://{address}"));
            scene.flag("private-address", address);
        }
        if let Some(certificates) = certificates.filter(|_| scene.https) {
            scene.flag("tls-certificate-file", certificates.file("server.pem"));
            scene.flag("tls-key-file", certificates.file("server.key"));
            // The variable of Go, Python and our own tools for the authority, and that of Node.
            scene.variable("SSL_CERT_FILE", certificates.file("ca.pem"));
            scene.variable("NODE_EXTRA_CA_CERTS", certificates.file("ca.pem"));
            scene.variable("TLS_CERTIFICATE", certificates.file("server.pem"));
            scene.variable("TLS_KEY", certificates.file("server.key"));
        }
        if let Some(certificates) = certificates.filter(|_| self == Self::Private) {
            let address = free_address()?.to_string();
            scene.flag("private-tls-certificate-file", certificates.file("server.pem"));
            scene.flag("private-tls-key-file", certificates.file("server.key"));
            scene.flag("private-client-ca-file", certificates.file("ca.pem"));
            scene.variable("PRIVATE_ORIGIN", format!("https://{address}"));
            scene.flag("private-address", address);
            for (who, certificate, key) in [
                ("client", "CLIENT_CERTIFICATE", "CLIENT_KEY"),
                ("other", "OTHER_CERTIFICATE", "OTHER_KEY"),
            ] {
                scene.variable(certificate, certificates.file(&format!("{who}.pem")));
                scene.variable(key, certificates.file(&format!("{who}.key")));
            }
        }
        if let Some(certificates) = certificates.filter(|_| self == Self::Proxied) {
            scene.variable("PROXY", free_address()?.to_string());
            scene.variable("TLS_PROXY", free_address()?.to_string());
            scene.variable("SSL_CERT_FILE", certificates.file("ca.pem"));
            scene.variable("TLS_CERTIFICATE", certificates.file("server.pem"));
            scene.variable("TLS_KEY", certificates.file("server.key"));
        }
        if let Some(certificates) = certificates.filter(|_| self == Self::Trusting) {
            scene.flag("trusted-proxies", "127.0.0.1".to_owned());
            scene.flag("connections-per-address-max", "1".to_owned());
            scene.flag("ping-interval", "500ms".to_owned());
            scene.variable("SSL_CERT_FILE", certificates.file("ca.pem"));
            scene.variable("TLS_CERTIFICATE", certificates.file("server.pem"));
            scene.variable("TLS_KEY", certificates.file("server.key"));
        }
        if self == Self::Issuer {
            scene.flag("jwt-jwks-file", keys.join("set.json").display().to_string());
            scene.flag("jwt-audience", "wserver-tests".to_owned());
            let issuer = keys.file_name().unwrap_or_default().to_string_lossy();
            scene.flag("jwt-issuer", format!("https://{issuer}.test"));
            scene.flag("jwt-events-claim", "events".to_owned());
            scene.flag("push-jwt-jwks-file", keys.join("set.json").display().to_string());
            scene.flag("push-jwt-audience", "wserver-publishers".to_owned());
            scene.flag("push-jwt-issuer", format!("https://{issuer}.test"));
            scene.variable("KEYS", keys.display().to_string());
        }
        if self == Self::Clustered {
            let broker = Broker::start()?;
            scene.flag("cluster-broker", format!("redis://{}", broker.address));
            scene.broker = Some(broker);
        }
        Ok(scene)
    }

    pub(super) fn needs_certificates(self) -> bool {
        self.speaks_tls() || matches!(self, Self::Proxied | Self::Trusting)
    }

    fn speaks_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Private)
    }
}

impl Scene {
    fn flag(&mut self, name: &str, value: String) {
        self.flags.push(format!("--{name}"));
        self.flags.push(value);
    }

    fn variable(&mut self, name: &'static str, value: String) {
        self.variables.push((name, value));
    }

    /// The first flag that a program with this help does not have.
    pub(super) fn unknown_flag(&self, help: &str) -> Option<&str> {
        let flags = self.flags.iter().step_by(2).map(String::as_str);
        // Check what follows the name, because one flag's name can be the start of another's.
        let known = |flag: &str| {
            let is_end = |rest: &str| rest.starts_with([' ', '=', '\n']) || rest.is_empty();
            help.match_indices(flag).any(|(at, _)| is_end(&help[at + flag.len()..]))
        };
        flags.into_iter().find(|flag| !known(flag))
    }

    /// Passes the setup to the client.
    pub(super) fn tell(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

/// A Redis that keeps nothing; dropping it kills it.
#[derive(Debug)]
struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Broker {
    fn start() -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port"]);
        command.arg(address.port().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("cannot run redis-server")?;
        let broker = Self { child, address };
        poll(START_TIMEOUT, || Ok(TcpStream::connect(address).ok()))?
            .context("redis-server accepts nothing")?;
        Ok(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An authority and the certificates that it signed, made again for each run.
#[derive(Debug)]
pub(super) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Days; no run takes two.
    const VALID: &str = "2";
    const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

    /// Makes all of them with the openssl program, version 3 or later.
    pub(super) fn make(sh: &Shell, folder: &Path) -> anyhow::Result<Self> {
        let made = Self { folder: folder.to_path_buf() };
        sh.create_dir(folder)?;
        for authority in ["ca", "other-ca"] {
            let usage = "keyUsage=critical,keyCertSign,cRLSign";
            made.request(sh, authority, None, &["basicConstraints=critical,CA:TRUE", usage])?;
        }
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        for (name, authority, usage) in [
            ("server", "ca", "extendedKeyUsage=serverAuth"),
            ("client", "ca", "extendedKeyUsage=clientAuth"),
            ("other", "other-ca", "extendedKeyUsage=clientAuth"),
        ] {
            made.request(sh, name, Some(authority), &["basicConstraints=CA:FALSE", names, usage])?;
        }
        Ok(made)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn request(
        &self,
        sh: &Shell,
        name: &str,
        authority: Option<&str>,
        extensions: &[&str],
    ) -> anyhow::Result<()> {
        let (key, days) = (Self::KEY, Self::VALID);
        let subject = format!("/O=wserver interop/CN={name}");
        let [certificate, private] = ["pem", "key"].map(|it| self.file(&format!("{name}.{it}")));
        let mut request = cmd!(sh, "openssl req -x509 {key...} -days {days} -subj {subject}");
        request = request.args(["-out", &certificate, "-keyout", &private]);
        for extension in extensions {
            request = request.args(["-addext", extension]);
        }
        if let Some(authority) = authority {
            let [ca, ca_key] = ["pem", "key"].map(|it| self.file(&format!("{authority}.{it}")));
            request = request.args(["-CA", &ca, "-CAkey", &ca_key]);
        }
        // openssl shows its progress with dots.
        Ok(request.quiet().ignore_stderr().run()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_is_missing_is_named() {
        let mut scene = Scene::default();
        scene.flag("tls-key-file", "a".to_owned());
        scene.flag("private-address", "b".to_owned());
        for (help, unknown) in [
            ("--tls-key-file <F>  key\n--private-address=<A>", None),
            ("--tls-key-file\n--private-address", None),
            ("--tls-key-file <F>\n--private-addresses <A>", Some("--private-address")),
            ("--private-tls-key-file <F>\n--private-address <A>", Some("--tls-key-file")),
        ] {
            assert_eq!(scene.unknown_flag(help), unknown, "{help}");
        }
        assert_eq!(Scene::default().unknown_flag(""), None);
    }
}
