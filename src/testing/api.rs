//! Request pipeline of the API server: count, fault, authentication, authorization, response.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::{
    authentication::Authentication,
    fault,
    list_options::ListOptions,
    lock::lock,
    objects::{Kind, text},
    release::Release,
    reply::Reply,
    representation::Representation,
    request_info::RequestInfo,
    state::State,
    status::Status,
    user::User,
};

/// Kubernetes' limit for a request body, in bytes (`MaxRequestBodyBytes`).
const MAX_REQUEST_BODY: usize = 3 * 1024 * 1024;

/// Answers `request`. Every failure becomes a response.
pub(super) async fn answer<B>(state: Arc<State>, request: Request<B>) -> Response<Reply>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let query = request.uri().query().unwrap_or_default();
    let info = RequestInfo::of(request.method(), request.uri().path(), query);
    let endpoint = info.endpoint();
    let in_flight = state.calls.record(endpoint);
    let response = respond(&state, &info, request);
    let mut response = match state.faults.take(endpoint) {
        None => response.await,
        Some(fault) => fault::inject(fault, &state.clock, response).await,
    };
    response.body_mut().hold(in_flight);
    response
}

async fn respond<B>(state: &Arc<State>, info: &RequestInfo, request: Request<B>) -> Response<Reply>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Go's `Header.Get` returns the first value.
    let authorization = request.headers().get(header::AUTHORIZATION).cloned();
    let authorization =
        authorization.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let outcome = match state.authenticate(authorization, &state.api_audiences) {
        Authentication::Nobody | Authentication::Failed(_) => Err(Status::unauthorized()),
        Authentication::User(user, _) => match state.authorize(&user, info) {
            Err(forbidden) => Err(forbidden),
            Ok(()) => {
                let (head, body) = request.into_parts();
                match Limited::new(body, MAX_REQUEST_BODY).collect().await {
                    Ok(body) => dispatch(state, &user, info, &head, &body.to_bytes()),
                    Err(_) => Err(Status::too_large()),
                }
            }
        },
    };
    let answer = outcome.unwrap_or_else(|status| Answer::json(status.code, &status.to_json()));
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(answer.cache_control));
    if let Some(date) = date(state) {
        headers.insert(header::DATE, date);
    }
    response
}

/// Returns the time by the cluster's clock. Without it, hyper adds that of the system's.
fn date(state: &State) -> Option<HeaderValue> {
    let now = jiff::Timestamp::try_from(state.clock.wall()).ok()?;
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
    HeaderValue::try_from(date).ok()
}

struct Answer {
    code: StatusCode,
    content_type: &'static str,
    cache_control: &'static str,
    body: Reply,
}

impl Answer {
    fn json(code: StatusCode, body: &Value) -> Self {
        Self::of_json(code, Reply::whole(format!("{body}\n").into()))
    }

    fn of_json(code: StatusCode, body: Reply) -> Self {
        Self { code, content_type: "application/json", cache_control: "no-cache, private", body }
    }

    /// Returns a 200 that clients may cache for an hour.
    fn public(content_type: &'static str, body: String) -> Self {
        Self {
            code: StatusCode::OK,
            content_type,
            cache_control: "public, max-age=3600",
            body: Reply::whole(body.into()),
        }
    }

    fn plain(code: StatusCode, text: &'static str) -> Self {
        let body = Reply::whole(Bytes::from_static(text.as_bytes()));
        Self {
            code,
            content_type: "text/plain; charset=utf-8",
            cache_control: "no-cache, private",
            body,
        }
    }
}

fn dispatch(
    state: &Arc<State>,
    user: &User,
    info: &RequestInfo,
    head: &request::Parts,
    body: &[u8],
) -> Result<Answer, Status> {
    if !info.is_resource {
        return Ok(document(state, info));
    }
    let found = |value: Value| Answer::json(StatusCode::OK, &value);
    let created = |value: Value| Answer::json(StatusCode::CREATED, &value);
    let (group, version) = (info.group.as_str(), info.version.as_str());
    let review = match (group, version, info.resource.as_str(), info.subresource.as_str()) {
        ("authentication.k8s.io", "v1", "tokenreviews", "") => "TokenReview",
        ("authorization.k8s.io", "v1", "subjectaccessreviews", "") => "SubjectAccessReview",
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "") => "SelfSubjectAccessReview",
        ("", "v1", "serviceaccounts", "token") => "TokenRequest",
        (
            "" | "authentication.k8s.io" | "authorization.k8s.io" | "rbac.authorization.k8s.io",
            "v1",
            ..,
        ) => "",
        _ => return Ok(Answer::plain(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    if !review.is_empty() {
        if head.method != Method::POST {
            return Err(Status::method_not_allowed());
        }
        let sent = decode(body, review)?;
        return match review {
            "TokenReview" => state.review_token(sent),
            "SubjectAccessReview" => state.review_access(sent),
            "SelfSubjectAccessReview" => state.review_own_access(user, sent),
            _ => state.request_token(&info.namespace, &info.name, sent),
        }
        .map(created);
    }
    let kind = Kind::find(group, version, &info.resource).filter(|_| info.subresource.is_empty());
    let kind = kind.ok_or_else(Status::unknown_resource)?;
    let namespace = if kind.namespaced { info.namespace.as_str() } else { "" };
    let accept = head.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = Representation::of(accept.unwrap_or_default());
    match info.verb.as_str() {
        "create" if info.name.is_empty() => {
            state.create(kind, namespace, decode(body, kind.name)?).map(created)
        }
        "get" => state.read(kind, namespace, &info.name).and_then(|it| form.object(it)).map(found),
        "list" | "watch" => {
            let query = head.uri.query().unwrap_or_default();
            let options = ListOptions::parse(query, &info.verb, state.release)?;
            if info.verb == "list" {
                let list = state.list(kind, namespace, &options)?;
                return form.list(list).map(found);
            }
            let chunks = state.watch(kind, namespace, &options, form)?;
            Ok(Answer::of_json(StatusCode::OK, Reply::stream(chunks)))
        }
        "delete" => {
            let options = if body.is_empty() { json!({}) } else { decode(body, "DeleteOptions")? };
            state.delete(kind, namespace, &info.name, &options).map(found)
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// Parses a body whose kind is `wanted` or missing.
fn decode(body: &[u8], wanted: &str) -> Result<Value, Status> {
    let unrecognized = |problem: &dyn std::fmt::Display| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {wanted}): couldn't get \
             version/kind; json parse error: {problem}"
        ))
    };
    let object: Value = serde_json::from_slice(body).map_err(|error| unrecognized(&error))?;
    if !object.is_object() {
        return Err(unrecognized(&"cannot unmarshal into an object"));
    }
    let (kind, version) = (text(&object, "/kind"), text(&object, "/apiVersion"));
    if !kind.is_empty() && kind != wanted {
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {wanted}"
        )));
    }
    Ok(object)
}

fn document(state: &State, info: &RequestInfo) -> Answer {
    match info.path.as_str() {
        "/.well-known/openid-configuration" | "/.well-known/openid-configuration/" => {
            Answer::public("application/json", discovery(state))
        }
        "/openid/v1/jwks" | "/openid/v1/jwks/" => {
            Answer::public("application/jwk-set+json", lock(&state.keys).jwks())
        }
        "/readyz" | "/livez" | "/healthz" => Answer::plain(StatusCode::OK, "ok"),
        "/version" | "/version/" => {
            let (major, minor, patch) =
                if state.release == Release::V1_20 { (1, 20, 2) } else { (1, 36, 0) };
            let version = json!({
                "major": major.to_string(), "minor": minor.to_string(),
                "gitVersion": format!("v{major}.{minor}.{patch}"),
                "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "go", "compiler": "gc", "platform": "linux/amd64",
            });
            Answer::json(StatusCode::OK, &version)
        }
        _ => Answer::plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// Returns the discovery document with its members in Kubernetes' order.
fn discovery(state: &State) -> String {
    let mut algorithms: Vec<_> =
        lock(&state.keys).published().iter().map(|key| key.algorithm().name()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let (issuer, jwks_uri) = (json!(state.issuer()), json!(state.jwks_uri));
    format!(
        "{{\"issuer\":{issuer},\"jwks_uri\":{jwks_uri},\
         \"response_types_supported\":[\"id_token\"],\"subject_types_supported\":[\"public\"],\
         \"id_token_signing_alg_values_supported\":{}}}",
        json!(algorithms)
    )
}
