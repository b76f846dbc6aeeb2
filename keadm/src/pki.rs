//! The CA, the certificate and the token of the cloud side, through cloudcore's own functions.
//!
//! Called by: `init`, `gettoken`.
//! Never: prints a token or a key.

use std::time::Duration;

use api::config::CloudCoreConfig;
use cloudcore::apiserver::ApiServer;
use cloudcore::cloudhub::secrets;
use cloudcore::metrics::Metrics;

use crate::cloud::Cloud;
use crate::errors::{CommandError, Kind};

/// The API server as cloudcore's own functions want it.
pub fn api_server(cloud: &Cloud) -> ApiServer {
    ApiServer::new(cloud.client.clone(), Metrics::default())
}

/// Makes what is absent of the CA, the server certificate and the token.
///
/// # Errors
/// What the API server says, or why what is there cannot be used.
pub async fn prepare_pki(cloud: &Cloud, config: &CloudCoreConfig) -> Result<(), CommandError> {
    let api = api_server(cloud);
    let hub = &config.modules.cloud_hub;
    let refresh = Duration::from_secs(u64::from(hub.token_refresh_duration) * 3600);
    let made = async {
        let pki = secrets::load_or_create(&api, hub).await?;
        secrets::refresh_token(&api, &pki.ca, refresh).await
    };
    made.await.map(drop).map_err(|e| {
        CommandError::new(Kind::Failed, format!("cannot make the secrets at `{}`", cloud.server))
            .caused_by(&e)
            .hint("`kubectl -n kubeedge get secrets` shows what is there")
    })
}
