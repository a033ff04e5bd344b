//! Callers that send their next request as soon as they have an answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::{
    facts::{Asked, Decision},
    fixture::Outcome,
    oracle::Oracle,
    report::{Report, Wrong},
    services::Service,
    token_pool::{Token, TokenPool},
};

pub(crate) struct Load {
    pub(crate) over: Arc<AtomicBool>,
    callers: JoinSet<Report>,
}

impl Load {
    pub(crate) fn start(services: &[Service], pool: Arc<TokenPool>, oracle: Arc<Oracle>) -> Self {
        let (over, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let started = Instant::now();
        for service in services {
            for _ in 0..service.callers {
                let (service, over) = (service.clone(), over.clone());
                let (pool, oracle) = (pool.clone(), oracle.clone());
                callers.spawn(async move {
                    let mut report = Report::new(started);
                    while !over.load(SeqCst) {
                        ask(&service, &pool.pick(), &oracle, &mut report).await;
                        // Cache hits never suspend: let other tasks run.
                        tokio::task::yield_now().await;
                    }
                    report
                });
            }
        }
        Self { over, callers }
    }

    pub(crate) async fn end(mut self) -> Outcome<Report> {
        let mut all = Report::new(Instant::now());
        while let Some(report) = self.callers.join_next().await {
            all.merge(report?);
        }
        Ok(all)
    }
}

async fn ask(service: &Service, token: &Token, oracle: &Oracle, report: &mut Report) {
    let request =
        Request::get("/").header(header::AUTHORIZATION, format!("Bearer {}", token.text()));
    let sent = Instant::now();
    // Taken before the answer, so that later events do not change it.
    let label = token.label(sent);
    let answering = service.router.clone().oneshot(request.body(Body::empty()).expect("a request"));
    let (head, body) = answering.await.expect("an infallible service").into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let asked = Asked { sent, answered: Instant::now() };

    let (decision, objection) = match head.status {
        StatusCode::OK if body != token.username => {
            (Decision::Accept, Some("wrong accept: as another identity"))
        }
        StatusCode::OK => {
            (Decision::Accept, oracle.objection(service, &token.facts, asked, Decision::Accept))
        }
        StatusCode::UNAUTHORIZED => {
            (Decision::Reject, oracle.objection(service, &token.facts, asked, Decision::Reject))
        }
        StatusCode::SERVICE_UNAVAILABLE => (
            Decision::Undecided,
            oracle.objection(service, &token.facts, asked, Decision::Undecided),
        ),
        _ => (Decision::Undecided, Some("an unexpected status")),
    };
    report.count(service.name, label, decision, asked);
    if let Some(what) = objection {
        let reason = format!("{}: {}", head.status, String::from_utf8_lossy(&body));
        report.wrong(Wrong { service: service.name, label, what, reason, asked });
    }
}
