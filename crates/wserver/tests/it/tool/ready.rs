//! `wserver ready`: by exit code, and by the settings.

use super::*;

#[test]
fn readiness_is_an_exit_code() {
    let server = Server::start();
    let (code, told, error) = said(&tool(&["ready", "--url", &url(&server)], &[], ""));
    assert_eq!((code, told.as_str(), error.as_str()), (0, "ready\n", ""));
    let gone = url(&server);
    server.signal("TERM");
    server.wait();
    let (code, told, error) = said(&tool(&["ready", "--url", &gone], &[], ""));
    assert_eq!((code, told.as_str()), (1, ""));
    assert!(error.contains("server unreachable"), "{error}");
    let shutting_down = Server::start_with(&["--drain-delay", "20s"], &[]);
    shutting_down.signal("TERM");
    eventually("the shutdown has begun", || {
        let output = tool(&["ready", "--url", &url(&shutting_down)], &[], "");
        said(&output).2.contains("the server is shutting down")
    });
}

/// The settings say where, so a health check needs no URL.
#[test]
fn ready_follows_the_settings() {
    // A server cannot be at port 0 to a program that only knows its settings.
    // By the environment, and by a file.
    let address = format!("127.0.0.1:{}", reserved_port());
    let server = Server::start_at(&address, &[], &[]);
    let environment = [("WSERVER_ADDRESS", &*address)];
    assert_eq!(said(&tool(&["ready"], &environment, "")).0, 0);
    let config = file("ready.toml", format!("address = {address:?}\n"));
    assert_eq!(said(&tool(&["ready", "--config", config.path()], &[], "")).0, 0);
    assert_eq!(said(&tool(&["ready"], &[("WSERVER_CONFIG", config.path())], "")).0, 0);
    drop(server);
    let (code, _, told) = said(&tool(&["ready", "--config", config.path()], &[], ""));
    assert!(code == 1 && told.contains(&address), "{told}");
    let mut params = rcgen::CertificateParams::new(["push.example.com".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = file("certificate.pem", params.self_signed(&key).unwrap().pem());
    let key = file("key.pem", key.serialize_pem());
    let tls = ["--tls-certificate-file", certificate.path(), "--tls-key-file", key.path()];
    let client_ca = ["--tls-client-ca-file", certificate.path()];
    let socket = file("ready-socket", "");
    let unix = format!("unix:{}.sock", socket.path());
    for flags in [
        &[][..],
        &tls,
        &[&tls[..], &["--private-address", &unix]].concat(),
        &[&tls[..], &client_ca, &["--private-address", &unix]].concat(),
    ] {
        let address = format!("127.0.0.1:{}", reserved_port());
        let server = Server::start_at(&address, flags, &[]);
        let flags = [&["--address", &address][..], flags].concat();
        let (code, printed, told) = said(&tool(&[&["ready"], &*flags].concat(), &[], ""));
        assert_eq!((code, &*printed, &*told), (0, "ready\n", ""), "{flags:?}");
        // The same by the process's own command line.
        let pid = server.pid().to_string();
        let (code, printed, told) = said(&tool(&["ready", "--pid", &pid], &[], ""));
        assert_eq!((code, &*printed, &*told), (0, "ready\n", ""), "{flags:?}");
    }
    // What nobody can know is said.
    let (code, _, told) = said(&tool(&["ready", "--address", "127.0.0.1:0"], &[], ""));
    assert!(code == 64 && told.contains("--url"), "{told}");
    let own = std::process::id().to_string();
    let (code, _, told) = said(&tool(&["ready", "--pid", &own], &[], ""));
    assert!(code == 64 && told.contains("is not a wserver process"), "{told}");
}
