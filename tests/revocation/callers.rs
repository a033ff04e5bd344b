//! Callers with a token, and the objects that their tokens end with.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{
    fixture::{Fixture, Outcome},
    service::AUDIENCE,
};

/// Requests to the API server at a time, while the callers are made.
const CONCURRENCY: usize = 8;

/// The owner of all Pods whose deletion is measured.
const OWNER: &str = "owner";

pub(crate) struct Caller {
    pub(crate) token: String,
    object: Object,
}

enum Object {
    Pod(String),
    ServiceAccount(String),
}

impl Caller {
    /// Deletes the object, and returns when the API server has answered.
    pub(crate) async fn delete_object(&self, fixture: &Fixture) -> Outcome {
        match &self.object {
            Object::Pod(name) => fixture.delete_pod(name).await,
            Object::ServiceAccount(name) => fixture.delete_service_account(name).await,
        }
    }
}

/// Makes the ServiceAccount that [`with_objects`] needs.
pub(crate) async fn make_owner(fixture: &Fixture) -> Outcome {
    fixture.service_account(OWNER).await?;
    Ok(())
}

/// Makes a caller for each number: by turns with a Pod and with a ServiceAccount of its own.
pub(crate) async fn with_objects(
    fixture: &Arc<Fixture>,
    numbers: std::ops::Range<usize>,
) -> Outcome<Vec<Caller>> {
    let making = numbers.map(|number| {
        let fixture = fixture.clone();
        async move {
            let name = format!("robot-{number}");
            if number % 2 == 0 {
                fixture.pod(&name, OWNER).await?;
                let token = fixture.bound_token(OWNER, &[AUDIENCE], "Pod", &name).await?;
                Ok(Caller { token, object: Object::Pod(name) })
            } else {
                fixture.service_account(&name).await?;
                let token = fixture.token(&name, &[AUDIENCE]).await?;
                Ok(Caller { token, object: Object::ServiceAccount(name) })
            }
        }
    });
    a_few_at_once(making).await
}

/// Makes Pods, each with a ServiceAccount of its own, and `each` tokens of every one.
pub(crate) async fn tokens_of_pods(
    fixture: &Arc<Fixture>,
    pods: usize,
    each: usize,
) -> Outcome<Vec<String>> {
    let making = (0..pods).map(|pod| {
        let fixture = fixture.clone();
        async move {
            let name = format!("robot-{pod}");
            fixture.service_account(&name).await?;
            fixture.pod(&name, &name).await?;
            let mut tokens = Vec::new();
            for number in 0..each {
                // Kubernetes before 1.30 issues the same token twice within a second otherwise.
                let audiences = [AUDIENCE, &format!("service-{number}")];
                tokens.push(fixture.bound_token(&name, &audiences, "Pod", &name).await?);
            }
            Ok(tokens)
        }
    });
    Ok(a_few_at_once(making).await?.into_iter().flatten().collect())
}

/// Runs the tasks and returns their outputs, in any order.
async fn a_few_at_once<T, F>(tasks: impl Iterator<Item = F>) -> Outcome<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + Send + 'static,
{
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for task in tasks {
        if running.len() == CONCURRENCY
            && let Some(ended) = running.join_next().await
        {
            done.push(ended??);
        }
        running.spawn(task);
    }
    while let Some(ended) = running.join_next().await {
        done.push(ended??);
    }
    Ok(done)
}
