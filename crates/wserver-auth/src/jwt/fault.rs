//! Why a token is not accepted, in words that hold nothing of it, and the labels of that.

use crate::BackendError;

/// The longest token that is examined, in bytes. Servers usually allow as much for all headers of a
/// request together; tokens of large issuers stay below a quarter of it.
pub const JWT_BYTES_MAX: usize = 16 * 1024;

/// What is wrong with a token; the text contains no part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtFault {
    /// It is longer than [`JWT_BYTES_MAX`](crate::JWT_BYTES_MAX).
    #[error("it is {bytes} bytes long, but must have at most {}", JWT_BYTES_MAX)]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It is not three parts of base64url, joined by dots.
    #[error("it is not a token: a token has three parts in base64url, joined by dots")]
    Shape,
    /// Its header is not a JSON object, or a known member of it has the wrong type.
    #[error("its header cannot be read")]
    Header,
    /// Its claims are not a JSON object.
    #[error("its claims are not a JSON object")]
    Claims,
    /// Its `alg` is not supported; `none` is not either.
    #[error("its algorithm is unknown, or none")]
    AlgorithmUnknown,
    /// Its `alg` does not belong to the key.
    #[error("the configured keys do not permit its algorithm")]
    AlgorithmNotPermitted,
    /// Its header has `crit`, and no extension is supported here.
    #[error("its header has crit, which demands an extension that the server does not know")]
    Critical,
    /// No key of ours has its `kid`.
    #[error("no configured key matches its kid")]
    KeyUnknown,
    /// More than one key of ours fits.
    #[error("too many configured keys match it; it needs a kid that names one of them")]
    KeyAmbiguous,
    /// The key did not sign it, or it was changed since.
    #[error("its signature is wrong")]
    Signature,
    /// A mandatory claim is missing.
    #[error("it has no {claim}")]
    Missing {
        /// The claim's name.
        claim: String,
    },
    /// A claim has the wrong type.
    #[error("its {claim} is not {expected}")]
    WrongType {
        /// The claim's name.
        claim: String,
        /// What it should be.
        expected: &'static str,
    },
    /// It has expired.
    #[error("it expired {seconds} seconds ago")]
    Expired {
        /// Seconds since it expired, without leeway.
        seconds: u64,
    },
    /// It is not valid yet.
    #[error("it becomes valid in {seconds} seconds")]
    NotYetValid {
        /// Seconds until it is valid, without leeway.
        seconds: u64,
    },
    /// Its `aud` names only other audiences.
    #[error("its aud contains none of the configured audiences")]
    Audience,
    /// Its `iss` is another issuer.
    #[error("its iss is not one of the configured issuers")]
    Issuer,
}

impl JwtFault {
    /// A label from a closed set, for the operator.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::TooLong { .. }
            | Self::Shape
            | Self::Header
            | Self::Claims
            | Self::WrongType { .. } => "jwt_malformed",
            Self::AlgorithmUnknown | Self::AlgorithmNotPermitted | Self::Critical => {
                "jwt_algorithm"
            }
            Self::KeyUnknown => "jwt_key_unknown",
            Self::KeyAmbiguous => "jwt_key_ambiguous",
            Self::Signature => "jwt_signature",
            Self::Missing { claim } if claim == "exp" => "jwt_exp_missing",
            Self::Missing { claim } if claim == "aud" => "jwt_audience",
            Self::Missing { claim } if claim == "iss" => "jwt_issuer",
            Self::Missing { .. } => "jwt_claim_missing",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Audience => "jwt_audience",
            Self::Issuer => "jwt_issuer",
        }
    }
}

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwtRefusal {
    /// The token has a fault.
    #[error("the token is refused: {0}")]
    Fault(#[from] JwtFault),
    /// The keys are not available, so the token cannot be judged.
    #[cfg_attr(not(feature = "jwks"), expect(dead_code, reason = "keys from a URL may fail"))]
    #[error("the keys that verify tokens are unavailable")]
    Unavailable(#[source] BackendError),
}
