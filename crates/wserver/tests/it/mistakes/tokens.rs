//! Wrong settings of `[jwt]` and `[push_jwt]`.

use super::check;

#[test]
fn of_tokens() {
    const KEYS: &str = "jwt_secret_file, jwt_public_key_file, jwt_jwks_file or jwt_jwks_url";
    let needs = |name: &str, line: u32| format!("FILE:{line}: jwt_{name} needs {KEYS}");
    check(
        "[jwt]",
        &[
            ("audience = 'push'", &[&needs("audience", 2)]),
            ("issuer = 'x'\nevents_claim = 'e'", &[&needs("issuer", 2), &needs("events_claim", 3)]),
            ("leeway = '1s'\nuser_claim = 'sub'", &[&needs("leeway", 2)]),
            ("ca_file = '$certificate'", &[&needs("ca_file", 2)]),
            ("allow_plain_http = true", &[&needs("allow_plain_http", 2)]),
            (
                "secret_file = '$secret'",
                &[
                    "jwt_audience is missing: in [jwt], write audience = \"whom tokens are meant for\", or \"any\"",
                ],
            ),
            (
                "secret = 'canary'",
                &[
                    "FILE:2: there is no setting \"secret\"; did you mean secret_file in the table [jwt]?",
                ],
            ),
            (
                "secret_file = '$secret'\naudiance = 'push'",
                &[
                    "FILE:3: there is no setting \"audiance\"; did you mean audience in the table [jwt]?",
                ],
            ),
        ],
    );
    check(
        "[jwt]\naudience = 'push'",
        &[
            (
                "secret_file = '$secret'\njwks_url = 'https://issuer.example/keys'",
                &[
                    "FILE:3, FILE:4: jwt_secret_file, jwt_public_key_file, jwt_jwks_file and jwt_jwks_url: choose one",
                ],
            ),
            (
                "secret_file = '$short'",
                &["FILE:3: jwt_secret_file $short: the secret has 6 bytes, but needs at least 32"],
            ),
            (
                "secret_file = '/no/such/file'",
                &["FILE:3: jwt_secret_file /no/such/file: No such file or directory (os error 2)"],
            ),
            (
                "public_key_file = '$private'",
                &["FILE:3: jwt_public_key_file $private: this is a private key; give only its \
                     public half, which `openssl pkey -pubout` prints"],
            ),
            (
                "public_key_file = '$certificate'",
                &["FILE:3: jwt_public_key_file $certificate: this is a certificate; `openssl \
                     x509 -pubkey -noout` prints its public key"],
            ),
            (
                "public_key_file = '$secret'",
                &["FILE:3: jwt_public_key_file $secret: it contains no PEM block; a public key \
                     begins with -----BEGIN PUBLIC KEY-----"],
            ),
            (
                "jwks_file = '$set'",
                &[
                    "FILE:3: jwt_jwks_file $set: this is not a JWKS: expected value at line 1 column \
                   1",
                ],
            ),
            (
                "jwks_file = '$empty_set'",
                &[
                    "FILE:3: jwt_jwks_file $empty_set: this is not a JWKS: its list of keys is empty",
                ],
            ),
            (
                "public_key_file = '$public'\nalgorithms = ['HS256']",
                &["FILE:4: jwt_algorithms: none of the keys fits HS256; they permit ES256"],
            ),
            (
                "secret_file = '$secret'\nalgorithms = ['none']",
                &["FILE:4: jwt_algorithms has \"none\": unknown algorithm; the known ones are \
                     HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 \
                     and EdDSA"],
            ),
            (
                "secret_file = '$secret'\nalgorithms = []",
                &["FILE:4: jwt_algorithms: no algorithm is configured"],
            ),
            ("secret_file = '$secret'\nissuer = ''", &["FILE:4: jwt_issuer: an issuer is empty"]),
            (
                "secret_file = '$secret'\nleeway = '10m'",
                &["FILE:4: jwt_leeway: the leeway is 600 s, but must be at most 300 s"],
            ),
            (
                "secret_file = '$secret'\nuser_claim = ''",
                &["FILE:4: jwt_user_claim is empty: write the name of a claim"],
            ),
            (
                "secret_file = '$secret'\nca_file = '$certificate'\nallow_plain_http = true",
                &[
                    "FILE:4: jwt_ca_file needs jwt_jwks_url",
                    "FILE:5: jwt_allow_plain_http needs jwt_jwks_url",
                ],
            ),
        ],
    );
    let audience = |lines: &str, told: &str| {
        check(
            "[jwt]\nsecret_file = '$secret'",
            &[(lines, &[&format!("FILE:3: jwt_audience{told}")])],
        );
    };
    audience(
        "audience = ''",
        ": no audience is set, or an empty one; to accept any audience, say so explicitly",
    );
    audience(
        "audience = ['any', 'push']",
        " contains \"any\" among others: write only \"any\", or leave it out",
    );
}

#[test]
fn of_key_sets_from_a_url() {
    check(
        "[jwt]\naudience = 'push'",
        &[
            (
                "jwks_url = 'http://keycloak:8080/keys?canary'",
                &["FILE:3: jwt_jwks_url: plain http:// to keycloak can be read and changed in \
                     transit: use https://, or set jwt_allow_plain_http if you trust that network"],
            ),
            (
                "jwks_url = 'keycloak/canary'",
                &["FILE:3: jwt_jwks_url: this is not a URL such as https://host/path"],
            ),
            (
                "jwks_url = 'ftp://keycloak/canary'",
                &["FILE:3: jwt_jwks_url: the URL must begin with https:// or http://"],
            ),
            (
                "jwks_url = 'https://user:canary@keycloak/'",
                &["FILE:3: jwt_jwks_url: the URL must not contain a user or password; set the \
                     secret separately"],
            ),
        ],
    );
    check(
        "[jwt]\naudience = 'push'\njwks_url = 'https://issuer.example/keys'",
        &[
            ("jwks_timeout = 0", &["FILE:4: jwt_jwks_timeout must be longer than zero"]),
            (
                "jwks_timeout = '10s'",
                &["FILE:4: jwt_jwks_timeout is 10s, but must be less than authenticate_timeout, \
                     which is 10s"],
            ),
            (
                "jwks_stale_max = '1m'",
                &["FILE:4: jwt_jwks_stale_max is 60s, but must be at least jwt_jwks_renew_after, \
                     which is 600s"],
            ),
            (
                "jwks_stale_max = '11m'\njwks_fetch_interval_min = '1h'",
                &["FILE:4, FILE:5: jwt_jwks_stale_max is 660s, but must be at least \
                     jwt_jwks_fetch_interval_min, which is 3600s"],
            ),
            (
                "ca_file = '/no/such/file'",
                &["FILE:4: jwt_ca_file /no/such/file: No such file or directory (os error 2)"],
            ),
            (
                "ca_file = '$private'",
                &["FILE:4: jwt_ca_file $private: it contains no certificate, or one that cannot \
                     be read"],
            ),
        ],
    );
    check(
        "[push_jwt]\naudience = 'push'\njwks_url = 'http://localhost/keys'",
        &[(
            "ca_file = '$certificate'",
            &["FILE:4, FILE:3: push_jwt_ca_file needs https://, but push_jwt_jwks_url is http://"],
        )],
    );
}

#[test]
fn of_publishers_tokens() {
    check(
        "[push_jwt]",
        &[
            (
                "audience = 'push'",
                &[
                    "FILE:2: push_jwt_audience needs push_jwt_secret_file, push_jwt_public_key_file, push_jwt_jwks_file or push_jwt_jwks_url",
                ],
            ),
            (
                "secret_file = '$secret'",
                &[
                    "push_jwt_audience is missing: in [push_jwt], write audience = \"whom tokens are meant for\", or \"any\"",
                ],
            ),
            (
                "secret_file = '$short'\naudience = 'push'",
                &["FILE:2: push_jwt_secret_file $short: the secret has 6 bytes, but needs at \
                     least 32"],
            ),
            (
                "secret_file = '$secret'\naudience = 'push'\nuser_claim = 'uid'",
                &[
                    "FILE:4: there is no setting \"user_claim\"; did you mean user_claim in the table [jwt]?",
                ],
            ),
            (
                "jwks_url = 'https://issuer.example/keys'\naudience = 'push'\njwks_timeout = '1h'",
                &["FILE:4: push_jwt_jwks_timeout is 3600s, but must be less than \
                     authenticate_timeout, which is 10s"],
            ),
        ],
    );
    check(
        "",
        &[
            (
                "[push-jwt]\nsecret_file = '$secret'",
                &[
                    "FILE:2: there is no table \"push-jwt\"; the tables are callback, cluster, jwt, push_jwt",
                ],
            ),
            (
                "push_jwt = 'x'",
                &["FILE:2: push_jwt is a table: write [push_jwt], and its settings below it"],
            ),
            ("[[jwt]]", &["FILE:2: jwt is a table: write [jwt], and its settings below it"]),
            (
                "push_jwt_secret_file = '$secret'",
                &[
                    "FILE:2: there is no setting \"push_jwt_secret_file\"; did you mean secret_file in the table [push_jwt]?",
                ],
            ),
        ],
    );
}
