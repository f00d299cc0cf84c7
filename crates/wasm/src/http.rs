//! A request of JavaScript as one of axum, and axum's answer as a `Response`.

use std::rc::Rc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::stream::{self, StreamExt};
use js_sys::{Array, JsString, Uint8Array};
use tower::ServiceExt;
use wasm_bindgen::prelude::{Closure, wasm_bindgen};
use wasm_bindgen::{JsCast, JsValue};
use wasm_streams::ReadableStream;
use web_sys::{AbortSignal, Headers, Response, ResponseInit};

use crate::error::{Failure, Kind};
use crate::keeper::Keeper;

#[wasm_bindgen]
extern "C" {
    /// `{method, url, headers: [name, value][], body?, signal?}`. No `Request`: that forbids headers.
    pub type WireRequest;
    #[wasm_bindgen(method, getter)]
    fn method(this: &WireRequest) -> String;
    #[wasm_bindgen(method, getter)]
    fn url(this: &WireRequest) -> String;
    #[wasm_bindgen(method, getter)]
    fn headers(this: &WireRequest) -> Array;
    #[wasm_bindgen(method, getter)]
    fn body(this: &WireRequest) -> Option<Uint8Array>;
    #[wasm_bindgen(method, getter)]
    fn signal(this: &WireRequest) -> Option<AbortSignal>;
}

impl WireRequest {
    /// Whether it leaves every slot as it is.
    pub(crate) fn only_reads(&self) -> bool {
        matches!(self.method().as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// Answers a request. An abort drops it, which cancels what it started; so does cancelling the answer's body.
///
/// # Errors
/// The signal's reason when it was aborted; a [`Failure`] when the request is none.
pub(crate) async fn answer(
    router: Router,
    wire: WireRequest,
    ending: Option<Ending>,
) -> Result<Response, JsValue> {
    let abort = wire.signal().map(Abort::new);
    if let Some(reason) = abort.as_ref().and_then(Abort::reason) {
        return Err(reason);
    }
    let answer = router.oneshot(request(&wire)?);
    let (response, abort) = match abort {
        None => (answer.await, None),
        Some(mut abort) => match select(answer, &mut abort.aborted).await {
            Either::Left((response, _)) => (response, Some(abort)),
            Either::Right(_) => return Err(abort.reason().unwrap_or(JsValue::UNDEFINED)),
        },
    };
    let Ok(response) = response;
    let (head, body) = response.into_parts();
    let init = ResponseInit::new();
    init.set_status(head.status.as_u16());
    init.set_headers(&headers(&head.headers)?.into());
    // A `Response` takes no body with these.
    if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || body.is_end_stream() {
        return Response::new_with_opt_str_and_init(None, &init);
    }
    let stream = ReadableStream::from_stream(chunks(body, abort, ending)).into_raw();
    Response::new_with_opt_readable_stream_and_init(Some(stream.unchecked_ref()), &init)
}

fn request(wire: &WireRequest) -> Result<Request, Failure> {
    let refuse = |what: &str| Failure::new(Kind::Options, format!("the request has no valid {what}"));
    let method = Method::from_bytes(wire.method().as_bytes()).map_err(|_| refuse("method"))?;
    let uri: Uri = wire.url().parse().map_err(|_| refuse("URL"))?;
    // Only the path is ours: origins differ from page to page.
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(match wire.body() {
        Some(bytes) => Body::from(bytes.to_vec()),
        None => Body::empty(),
    });
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| refuse("URL"))?;
    for pair in wire.headers().iter() {
        let pair = Array::from(&pair);
        let text = |at| pair.get(at).dyn_into::<JsString>().map(String::from).map_err(|_| refuse("headers"));
        let name = HeaderName::try_from(text(0)?).map_err(|_| refuse("headers"))?;
        let value = HeaderValue::try_from(text(1)?).map_err(|_| refuse("headers"))?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

fn headers(from: &HeaderMap) -> Result<Headers, JsValue> {
    let headers = Headers::new()?;
    for (name, value) in from {
        headers.append(name.as_str(), &String::from_utf8_lossy(value.as_bytes()))?;
    }
    Ok(headers)
}

/// The body piece by piece, each as a `Uint8Array` of its own; it fails with the signal's reason when that is aborted.
fn chunks(
    body: Body,
    abort: Option<Abort>,
    ending: Option<Ending>,
) -> impl futures::Stream<Item = Result<JsValue, JsValue>> {
    stream::unfold(Some((body.into_data_stream(), abort, ending)), |live| async {
        let (mut body, mut abort, ending) = live?;
        let next = match &mut abort {
            None => body.next().await,
            Some(abort) => match select(body.next(), &mut abort.aborted).await {
                Either::Left((next, _)) => next,
                Either::Right(_) => return Some((Err(abort.reason().unwrap_or(JsValue::UNDEFINED)), None)),
            },
        };
        match next? {
            Ok(bytes) => Some((Ok(Uint8Array::from(bytes.as_ref()).into()), Some((body, abort, ending)))),
            Err(error) => Some((Err(js_sys::Error::new(&error.to_string()).into()), None)),
        }
    })
}

/// Tells the keeper, when it is dropped, that a request has ended: answered to the last byte, or given up.
pub(crate) struct Ending(pub Rc<Keeper>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// An abort signal as a future.
struct Abort {
    signal: AbortSignal,
    aborted: oneshot::Receiver<()>,
    on_abort: Closure<dyn FnMut()>,
}

impl Abort {
    fn new(signal: AbortSignal) -> Self {
        let (tell, aborted) = oneshot::channel();
        let mut tell = Some(tell);
        let on_abort = Closure::new(move || {
            // A receiver that is gone has ended by itself.
            let _ = tell.take().map(|tell| tell.send(()));
        });
        // Adding a listener to a signal does not fail.
        let _ = signal.add_event_listener_with_callback("abort", on_abort.as_ref().unchecked_ref());
        Self { signal, aborted, on_abort }
    }

    /// Why it was aborted, if it was.
    fn reason(&self) -> Option<JsValue> {
        self.signal.aborted().then(|| self.signal.reason())
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        let listener = self.on_abort.as_ref().unchecked_ref();
        // As adding one.
        let _ = self.signal.remove_event_listener_with_callback("abort", listener);
    }
}
