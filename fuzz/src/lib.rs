//! The fuzz targets. Each compares the crate with an oracle that shares no code with it: both must
//! accept the same input, and nothing may panic (libFuzzer also ends at a panic that is caught).

pub mod authorization_header;
pub mod claims;
pub mod discovery;
mod fake_api_server;
mod fixtures;
pub mod jwks;
mod object;
pub mod precheck;
pub mod token_review;
pub mod username;

use std::{
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::{Duration, UNIX_EPOCH},
};

use tower_kube_auth::{audience::Audiences, clock::Clock, testing::ManualClock};

/// The issuer of the seeds.
pub const ISSUER: &str = "https://issuer.example";
/// The audience of all verifications.
pub const AUDIENCE: &str = "orders";
/// The fixed time, at which the tokens of the seeds are valid: 2023-11-14T22:13:20Z.
pub const NOW: u64 = 1_700_000_000;

/// Returns a clock that stands at [`NOW`].
pub fn clock() -> Clock {
    let clock = ManualClock::new();
    let ahead = clock.clock().wall().duration_since(UNIX_EPOCH + Duration::from_secs(NOW));
    clock.jump_back(ahead.expect("the machine's clock is beyond 2023"));
    clock.clock()
}

fn audiences() -> &'static Audiences {
    static AUDIENCES: LazyLock<Audiences> = LazyLock::new(|| Audiences::new([AUDIENCE]).unwrap());
    &AUDIENCES
}

/// Returns the output of a future that does not suspend.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future suspended"),
    }
}
