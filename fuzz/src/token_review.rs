//! Any bytes as the API server's response to a TokenReview.

use tower_kube_auth::{
    BearerToken, TokenReviewVerifier, Verifier,
    verdict::{Acceptance, Verdict},
};

use crate::{
    AUDIENCE, audiences, clock,
    fake_api_server::FakeApiServer,
    object::{Object, Unusable, is_text},
    username::is_service_account,
};

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

thread_local! {
    static UNDER_TEST: (FakeApiServer, TokenReviewVerifier) = {
        let api_server = FakeApiServer::new();
        let verifier = TokenReviewVerifier::new(api_server.client.clone()).clock(clock());
        (api_server, verifier)
    };
}

pub fn check(data: &[u8]) {
    let token = BearerToken::parse("e30.e30.c2ln").unwrap();
    let outcome = UNDER_TEST.with(|(api_server, verifier)| {
        api_server.serve(PATH, data);
        api_server.block_on(verifier.verify(token, audiences()))
    });
    match (&outcome, expected(data)) {
        (Ok(Verdict::Accept(accepted)), Ok(user)) => compare(accepted, &user),
        (Ok(Verdict::Accept(_)), Err(Unusable)) => panic!("accepted, but must not be"),
        (Ok(Verdict::Reject(_)) | Err(_), Err(Unusable)) => {}
        (rejected, Ok(_)) => assert!(!is_text(data), "{rejected:?}, but must be accepted"),
    }
}

struct User {
    username: String,
    uid: String,
    groups: Vec<String>,
}

/// Returns `Unusable` unless the response is for a ServiceAccount and the audience.
fn expected(data: &[u8]) -> Result<User, Unusable> {
    let status = Object::read(data).ok_or(Unusable)?.object("status")?.ok_or(Unusable)?;
    let is_authenticated = status.flag("authenticated")?.unwrap_or_default();
    let is_for_us =
        status.list("audiences")?.unwrap_or_default().iter().any(|audience| audience == AUDIENCE);
    status.text("error")?;
    let user = status.object("user")?.ok_or(Unusable)?;
    let username = user.text("username")?.ok_or(Unusable)?;
    let uid = user.text("uid")?.ok_or(Unusable)?;
    let groups = user.list("groups")?.ok_or(Unusable)?;
    check_extra(&user)?;
    let ["system", "serviceaccount", namespace, name] = username.split(':').collect::<Vec<_>>()[..]
    else {
        return Err(Unusable);
    };
    let namespace_group = format!("system:serviceaccounts:{namespace}");
    let is_member = |wanted: &str| groups.iter().any(|group| group == wanted);
    let is_one = is_service_account(namespace, name)
        && is_member("system:serviceaccounts")
        && is_member(&namespace_group)
        && (1..=128).contains(&uid.len())
        && uid.chars().all(|character| character.is_ascii_graphic());
    if is_authenticated && is_for_us && is_one {
        Ok(User { username, uid, groups })
    } else {
        Err(Unusable)
    }
}

/// A list of strings, or `null`.
fn check_extra(user: &Object) -> Result<(), Unusable> {
    let Some(extra) = user.raw("extra")? else { return Ok(()) };
    let extra =
        serde_json::from_str::<std::collections::BTreeMap<String, Option<Vec<String>>>>(extra);
    extra.map(drop).map_err(|_| Unusable)
}

fn compare(accepted: &Acceptance, user: &User) {
    let identity = accepted.identity();
    assert_eq!((identity.username(), identity.uid()), (&*user.username, &*user.uid));
    assert_eq!(identity.groups().collect::<Vec<_>>(), user.groups);
    assert_eq!(identity.audiences().collect::<Vec<_>>(), [AUDIENCE]);
}
