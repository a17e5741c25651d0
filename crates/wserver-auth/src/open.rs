//! The two implementations that refuse nobody, for trials and trusted networks; they are the
//! ancestor's defaults.

use async_trait::async_trait;

use crate::listen::{Authenticator, Credentials, Identity, Refusal};
use crate::push::{Publisher, PushAuthorizer, PushCredentials, PushRefusal};

/// Accepts every client: the token is the user id.
///
/// Anybody can then register as any user whose id they can guess.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenAuthenticator;

#[async_trait]
impl Authenticator for OpenAuthenticator {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        Ok(Identity::new(credentials.token))
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// Lets everybody push everything to everyone.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenPush;

#[async_trait]
impl PushAuthorizer for OpenPush {
    async fn authorize(&self, _request: PushCredentials) -> Result<Publisher, PushRefusal> {
        Ok(Publisher::new())
    }

    fn is_open(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::testing::answer;

    #[test]
    fn the_user_is_the_token() {
        let credentials = Credentials::new("aaa", "10.0.0.1:80".parse().unwrap());
        let identity = answer(OpenAuthenticator.authenticate(credentials)).unwrap();
        assert_eq!(identity, Identity::new("aaa"));
    }
}
