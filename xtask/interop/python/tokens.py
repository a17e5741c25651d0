"""Tokens of an independent implementation: keys and a token for every algorithm, by PyJWT.

    pip install "pyjwt[crypto]"
    python3 xtask/interop/python/tokens.py crates/wserver-auth/tests/pyjwt

Writes keys.json, a JWKS of every public key; each public key as PEM too; secret.txt; and
tokens.json. The private keys are forgotten, so the tokens cannot be made again, only anew. The
secret is in the repository for all to see and protects nothing.
"""

import json
import pathlib
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "test-only: this secret of wserver's tests stands in its repository, it protects nothing!"
FAR_FUTURE = 4102444800  # 2100-01-01
CLAIMS = {
    "sub": "jack",
    "aud": ["wserver-tests", "others"],
    "iss": "https://pyjwt.test",
    "iat": 1700000000,
    "nbf": 1700000000,
    "exp": FAR_FUTURE,
    "events": ["order.*", "chat"],
    "uid": 42,
}


def write(folder: pathlib.Path) -> dict:
    """Writes all of it, and answers with the private keys."""
    folder.mkdir(parents=True, exist_ok=True)
    private = {
        "rsa": (rsa.generate_private_key(65537, 2048), "RS256 RS384 RS512 PS256 PS384 PS512"),
        "p256": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        "p384": (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        "ed25519": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    }
    # Of the same kinds and lengths, and signs nothing: the wrong key.
    other = {
        "other-rsa": rsa.generate_private_key(65537, 2048),
        "other-p256": ec.generate_private_key(ec.SECP256R1()),
        "other-p384": ec.generate_private_key(ec.SECP384R1()),
        "other-ed25519": ed25519.Ed25519PrivateKey.generate(),
        "weak-rsa": rsa.generate_private_key(65537, 1024),
    }
    tokens, keys = [], []
    for algorithm in ("HS256", "HS384", "HS512"):
        tokens.append(entry(algorithm, "secret", SECRET))
    for name, (key, algorithms) in private.items():
        for algorithm in algorithms.split():
            tokens.append(entry(algorithm, name, key))
        write_pem(folder, name, key)
        # A JWKS names one algorithm per key or none; none here, so that RSA serves all six.
        keys.append(jwk(key, algorithms.split()[0]) | {"kid": name, "use": "sig"})
    for name, key in other.items():
        write_pem(folder, name, key)
    (folder / "secret.txt").write_text(SECRET)
    write_json(folder / "keys.json", {"keys": keys})
    write_json(folder / "tokens.json", tokens)
    return {name: key for name, (key, _) in private.items()}


def entry(algorithm: str, kid: str, key: object) -> dict:
    token = jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": kid})
    return {"algorithm": algorithm, "kid": kid, "token": token}


def jwk(key: object, algorithm: str) -> dict:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in made.items() if name != "key_ops"}


def write_pem(folder: pathlib.Path, name: str, key: object) -> None:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pem").write_bytes(pem)


def write_json(path: pathlib.Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
