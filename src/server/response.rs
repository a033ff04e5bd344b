//! The response to a refused request, and the hook to give it another body.

use http::Response;

use super::rejection::Rejection;

/// Turns a refusal into a response: the hook behind
/// [`AuthenticateLayer::map_rejection_response`](super::AuthenticateLayer::map_rejection_response), implemented by every fitting closure.
pub trait RejectionResponse<ResBody>: Clone {
    /// `response` has the status and the headers that the protocol asks for: give it a body.
    fn respond(&self, response: Response<()>, rejection: &Rejection) -> Response<ResBody>;
}

impl<F, ResBody> RejectionResponse<ResBody> for F
where
    F: Fn(Response<()>, &Rejection) -> Response<ResBody> + Clone,
{
    fn respond(&self, response: Response<()>, rejection: &Rejection) -> Response<ResBody> {
        self(response, rejection)
    }
}

/// The default body: a line of text for axum's `Body` (with the `axum` feature), an empty one for any other type.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultRejectionResponse;

impl<ResBody: Default + 'static> RejectionResponse<ResBody> for DefaultRejectionResponse {
    fn respond(&self, response: Response<()>, rejection: &Rejection) -> Response<ResBody> {
        let mut response = response.map(|()| ResBody::default());
        if !response.headers().contains_key("grpc-status") {
            write_text(&mut response, rejection.body_text());
        }
        response
    }
}

/// A generic body can only be made empty; axum's is the one that we know how to fill.
#[cfg(feature = "axum")]
fn write_text<ResBody: 'static>(response: &mut Response<ResBody>, text: &'static str) {
    use std::any::Any;

    use http::{HeaderValue, header};

    if let Some(body) =
        (response.body_mut() as &mut dyn Any).downcast_mut::<axum_core::body::Body>()
    {
        *body = text.into();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
}

#[cfg(not(feature = "axum"))]
fn write_text<ResBody: 'static>(_: &mut Response<ResBody>, _: &'static str) {}
