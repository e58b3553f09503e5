//! RuntimeService for pods of two doors: the kubelet's, and those of husk's own command line, which no kubelet may see, because it ends
//! what it does not know. A call says in its metadata that it means the latter; without a word it is the kubelet's.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, Request, Response},
    server::NamedService,
};
use tower::Service;

/// The metadata by which a call names its door, and the one that can be named.
pub const DOOR: &str = "husk-door";
/// The door of husk's own command line.
pub const HUSK_DOOR: &str = "husk";

/// The same service of two doors.
#[derive(Debug, Clone)]
pub struct Doors<S> {
    cri: S,
    husk: S,
}

impl<S> Doors<S> {
    /// `cri` answers calls that name no door, `husk` those that name husk's.
    pub fn new(cri: S, husk: S) -> Self {
        Self { cri, husk }
    }
}

impl<S: NamedService> NamedService for Doors<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, RequestBody> Service<Request<RequestBody>> for Doors<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        ready!(self.cri.poll_ready(cx))?;
        self.husk.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        match named(request.headers()) {
            Ok(false) => Box::pin(self.cri.call(request)),
            Ok(true) => Box::pin(self.husk.call(request)),
            Err(refusal) => Box::pin(async move { Ok(refusal.into_http()) }),
        }
    }
}

/// Whether husk's door is named. Another is nobody's: to take it for the kubelet's could end a kubelet's pod.
fn named(headers: &HeaderMap) -> Result<bool, Status> {
    let mut doors = headers.get_all(DOOR).iter();
    match (doors.next(), doors.next()) {
        (None, _) => Ok(false),
        (Some(door), None) if door == HUSK_DOOR => Ok(true),
        (Some(_), _) => Err(Status::invalid_argument(format!(
            "metadata {DOOR}: the door that can be named is {HUSK_DOOR}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_the_kubelets_unless_it_names_husks_door_and_no_other_can_be_named() {
        let of = |doors: &[&str]| {
            let mut headers = HeaderMap::new();
            for door in doors {
                headers.append(DOOR, door.parse().unwrap());
            }
            named(&headers).ok()
        };
        assert_eq!(of(&[]), Some(false));
        assert_eq!(of(&["husk"]), Some(true));
        for doors in [&["docker"][..], &[""], &["cri"], &["husk", "husk"]] {
            assert_eq!(of(doors), None, "{doors:?}");
        }
    }
}
