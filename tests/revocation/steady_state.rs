//! The requests of the live mode to the API server while its callers and their objects stay the
//! same.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    callers,
    fixture::{Fixture, Outcome},
    modes,
    request_counts::RequestCounts,
    service::Service,
};

const PODS: usize = 100;
const TOKENS_OF_EACH: usize = 10;
/// Least number of times that each cache entry reaches its TTL.
const TTLS: u32 = 5;
/// The default of the builder.
const LONGEST_TTL: Duration = Duration::from_secs(60);
/// Between two calls of a caller, at most. Several fit in a TTL.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Lets 1 000 callers call for `length`, and fails if that causes a request per caller.
pub(crate) async fn measure(fixture: Arc<Fixture>, length: Duration) -> Outcome {
    let tokens = callers::tokens_of_pods(&fixture, PODS, TOKENS_OF_EACH).await?;
    assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), PODS * TOKENS_OF_EACH);
    let (server, counts) = RequestCounts::of(fixture.admin());
    let ttl = LONGEST_TTL.min(length / TTLS);
    let service = Service::new(modes::live(server).await?.cache_ttl(ttl).build()?);

    call(&service, &tokens).await?;
    let at_start = counts.take();
    println!("requests until all {} callers are known\n{at_start}", tokens.len());

    let (verified, started) = (service.verifications(), Instant::now());
    let mut calls = 0;
    while started.elapsed() < length {
        sleep(LONGEST_PAUSE.min(ttl / 5)).await;
        call(&service, &tokens).await?;
        calls += tokens.len();
    }
    let (verified, steady) = (service.verifications() - verified, counts.take());
    println!(
        "requests in {:.0} s of steady state: {calls} calls with a cache TTL of {ttl:?}, \
         {verified} verifications, {} TokenReviews\n{steady}",
        started.elapsed().as_secs_f64(),
        steady.token_reviews()
    );
    assert!(verified >= tokens.len() as u64, "no caller was verified again");
    for counts in [at_start, steady] {
        assert_eq!((counts.token_reviews(), counts.others()), (0, Vec::new()));
    }
    Ok(())
}

async fn call(service: &Service, tokens: &[String]) -> Outcome {
    for token in tokens {
        service.accepts(token).await?;
    }
    Ok(())
}
