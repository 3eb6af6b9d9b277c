//! Follows the objects of one kind: lists them, then hears of changes, for ever. Errors, restarts of the API server and
//! lists that have become too old to go on from (410 Gone) end in another list, never in objects that are forgotten.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::agent::Input;
use crate::kind::Kind;
use crate::object::Object;

/// How many objects the API server is asked for at a time: as many are in memory with all their fields' text.
const PAGE: u32 = 250;

/// How often it is asked again for a kind that it does not have.
const ABSENT: Duration = Duration::from_secs(10);

/// What was heard of a kind.
#[derive(Debug)]
pub(crate) enum Heard {
    /// All its objects will be told anew, followed by [`Listed`](Self::Listed).
    Listing,
    /// An object is there, or has changed.
    Applied(Object),
    /// An object is gone.
    Deleted(Object),
    /// What has not been told since [`Listing`](Self::Listing) is not there.
    Listed,
}

/// What was heard, of which kind, and when.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) heard: Heard,
    pub(crate) at: Instant,
}

/// Tells what is heard of a kind until nobody listens any more.
///
/// A custom resource that the API server does not have is one without objects; it is asked for again and again.
pub(crate) async fn watch(client: Client, kind: Kind, inputs: Sender<Input>) {
    let api = Api::<Object>::all_with(client, &kind.resource());
    let config = watcher::Config::default().page_size(PAGE);
    let mut stream = pin!(watcher(api, config));
    let mut backoff = watcher::DefaultBackoff::default();
    let mut served = Served::Unknown;
    while let Some(result) = stream.next().await {
        match result {
            Ok(event) => {
                let heard = match event {
                    watcher::Event::Init => Heard::Listing,
                    watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                        Heard::Applied(object)
                    }
                    watcher::Event::Delete(object) => Heard::Deleted(object),
                    watcher::Event::InitDone => {
                        info!(%kind, "listed");
                        Heard::Listed
                    }
                };
                if !matches!(heard, Heard::Listing) {
                    served = Served::Yes;
                    backoff.reset();
                }
                if inputs
                    .send(Input::Watched(Event { kind, heard, at: Instant::now() }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(error) if kind.is_custom() && is_not_found(&error) => {
                // A server that is starting may not know its custom resources yet: what was there before is gone only
                // when it is said twice.
                let before = served;
                served = if before == Served::Yes { Served::Doubtful } else { Served::No };
                if served == Served::No && before != Served::No {
                    info!(%kind, "the API server does not have this kind");
                    for heard in [Heard::Listing, Heard::Listed] {
                        let event = Event { kind, heard, at: Instant::now() };
                        if inputs.send(Input::Watched(event)).await.is_err() {
                            return;
                        }
                    }
                }
                sleep(ABSENT).await;
            }
            Err(error) => {
                let pause = backoff.next().unwrap_or(ABSENT);
                warn!(%kind, %error, ?pause, "watching failed; enforcement stays as it is");
                sleep(pause).await;
            }
        }
    }
}

/// Whether the API server has a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    Unknown,
    Yes,
    /// It did, and said once that it does not.
    Doubtful,
    No,
}

fn is_not_found(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            matches!(error, kube::Error::Api(status) if status.code == 404)
        }
        _ => false,
    }
}
