//! 10 000 simulated hours of refreshing without an expired token.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::{client::TokenSource, clock::manual::ManualClock};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const SPAN: u64 = 10_000 * HOUR;

struct Soak {
    clock: ManualClock,
    fake: TokenIssuer,
    source: TokenRequestSource,
    elapsed: u64,
}

impl Soak {
    fn with_life(seconds: u64) -> Self {
        let clock = ManualClock::new();
        let fake = TokenIssuer::new(&clock.clock());
        let builder =
            fake.builder().namespace("shop").service_account("checkout").audience("orders");
        let source = builder.expires_in(Duration::from_secs(seconds)).build().unwrap();
        Self { clock, fake, source, elapsed: 0 }
    }

    async fn advance(&mut self, seconds: u64) {
        self.elapsed += seconds;
        self.clock.advance(Duration::from_secs(seconds));
        for _ in 0..6 {
            tokio::task::yield_now().await;
        }
    }

    /// Returns a token, which must be valid now.
    async fn token(&self) -> Option<String> {
        let token = self.source.token().await.ok()?;
        let (now, expiry) = (self.clock.clock().wall(), token.expires_at().unwrap());
        assert!(now < expiry, "an expired token was handed out after {} s", self.elapsed);
        Some(token.expose_secret().to_owned())
    }
}

/// There is always a token, and there are as many requests as refresh windows.
#[tokio::test]
async fn one_request_per_refresh_window_and_no_expired_token() {
    let lives = [
        (HOUR, 6 * MINUTE, SPAN),
        (10 * MINUTE, 90, SPAN / 20),
        (365 * 24 * HOUR, 30 * MINUTE, SPAN),
    ];
    for (life, step, span) in lives {
        let window = (life as f64 * 0.8).min(24.0 * HOUR as f64);
        let mut soak = Soak::with_life(life);
        let (mut last, mut last_change) = (soak.token().await.unwrap(), 0);
        while soak.elapsed < span {
            soak.advance(step).await;
            let token = soak.token().await.expect("there is always a token");
            if token != last {
                let age = (soak.elapsed - last_change) as f64;
                assert!(age >= window * 0.95, "replaced after {age} s of {window}");
                (last, last_change) = (token, soak.elapsed);
            }
        }
        let requests = f64::from(soak.fake.calls());
        let windows = span as f64 / window;
        // Jitter makes windows up to 5 % shorter, the clock's steps up to a step longer.
        let longest = window + step as f64;
        assert!(requests <= windows / 0.95 + 2.0, "{requests} requests in {windows} windows");
        assert!(
            requests >= span as f64 / longest - 1.0,
            "{requests} requests in {windows} windows"
        );
    }
}

/// Outages of up to two hours: a token is returned while one is valid, and requests stay bounded.
#[tokio::test]
async fn outages_cause_no_expired_token_and_no_storm() {
    let random = &mut fastrand::Rng::with_seed(4);
    let mut soak = Soak::with_life(HOUR);
    let (mut served, mut missed, mut storms) = (0_u32, 0_u32, 0_u32);
    while soak.elapsed < SPAN {
        let outage = random.u64(MINUTE..2 * HOUR);
        let status = *random
            .choice(&[StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND])
            .unwrap();
        soak.fake.answer_with(status, json!({}));
        let (calls, began) = (soak.fake.calls(), soak.elapsed);
        while soak.elapsed < began + outage {
            soak.advance(random.u64(1..5 * MINUTE)).await;
            if soak.token().await.is_some() { served += 1 } else { missed += 1 }
        }
        // 1+2+4+8+16 s and then every 30 s, each up to a quarter earlier.
        storms += u32::from(u64::from(soak.fake.calls() - calls) > 6 + (soak.elapsed - began) / 22);

        soak.fake.answer_rightly();
        soak.advance(MINUTE).await;
        for _ in 0..random.u32(1..60) {
            soak.advance(random.u64(1..5 * MINUTE)).await;
            assert!(
                soak.token().await.is_some(),
                "the API server works again, and there is no token"
            );
        }
    }
    assert_eq!(storms, 0);
    assert!(served > 1000 && missed > 100, "both must occur: {served} {missed}");
}
