//! Callers who ask again as soon as they are answered.

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
    modes::Mode,
    oracle::{Asked, Oracle, Said},
    population::{Population, Token},
    report::{Report, Wrong},
    scene::Outcome,
};

pub(crate) struct Load {
    pub(crate) over: Arc<AtomicBool>,
    callers: JoinSet<Report>,
}

impl Load {
    pub(crate) fn start(modes: &[Mode], population: Arc<Population>, oracle: Arc<Oracle>) -> Self {
        let (over, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let started = Instant::now();
        for mode in modes {
            for _ in 0..mode.callers {
                let (mode, over) = (mode.clone(), over.clone());
                let (population, oracle) = (population.clone(), oracle.clone());
                callers.spawn(async move {
                    let mut report = Report::new(started);
                    while !over.load(SeqCst) {
                        ask(&mode, &population.pick(), &oracle, &mut report).await;
                        // What is in the cache is answered without any wait, and others want the processor too.
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

async fn ask(mode: &Mode, token: &Token, oracle: &Oracle, report: &mut Report) {
    let request =
        Request::get("/").header(header::AUTHORIZATION, format!("Bearer {}", token.text()));
    let sent = Instant::now();
    // Before the answer: what happens meanwhile is not what was asked about.
    let label = token.label(sent);
    let answering = mode.router.clone().oneshot(request.body(Body::empty()).expect("a request"));
    let (head, body) = answering.await.expect("an infallible service").into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let asked = Asked { sent, answered: Instant::now() };

    let (said, objection) = match head.status {
        StatusCode::OK if body != token.username => {
            (Said::Accept, Some("wrong accept: as somebody else"))
        }
        StatusCode::OK => (Said::Accept, oracle.objection(mode, &token.facts, asked, Said::Accept)),
        StatusCode::UNAUTHORIZED => {
            (Said::Reject, oracle.objection(mode, &token.facts, asked, Said::Reject))
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            (Said::Undecided, oracle.objection(mode, &token.facts, asked, Said::Undecided))
        }
        _ => (Said::Undecided, Some("an answer that is none of the three")),
    };
    report.count(mode.name, label, said, asked);
    if let Some(what) = objection {
        let reason = format!("{}: {}", head.status, String::from_utf8_lossy(&body));
        report.wrong(Wrong { mode: mode.name, label, what, reason, asked });
    }
}
