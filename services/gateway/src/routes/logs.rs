//! Logs of tasks: asked of the node that has them, passed on as they come.
//!
//! Everything that can be refused without the node is refused here; what the node says no to is passed on
//! with its status and words. Once the first byte is out, an error only ends the stream.

use std::time::Duration;

use axum::extract::{Path, State};
use client::http::Call;
use model::AllocId;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::{ANSWER, FRAMES_SILENCE, find, passed_on, percent_encoded, refused, stream_permit, target};
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::{Options, Params, parse_bool};

/// Longest silence of a plain stream that is followed; a dead node is found by its connection.
const PLAIN_SILENCE: Duration = Duration::from_secs(24 * 3600);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(logs))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct LogParams {
    /// Name of the task.
    task: String,
    /// `stdout` or `stderr`.
    #[param(rename = "type")]
    kind: String,
    /// Go on as the task writes.
    follow: Option<bool>,
    /// Where to begin, in bytes from the origin.
    offset: Option<i64>,
    /// `start` or `end`.
    origin: Option<String>,
    /// The bytes themselves, without frames.
    plain: Option<bool>,
}

/// What is asked for, checked.
struct Ask<'a> {
    task: &'a str,
    kind: &'a str,
    follow: bool,
    plain: bool,
    offset: i64,
    origin: &'a str,
}

fn ask(params: &Params) -> Result<Ask<'_>, ApiError> {
    let task = params.text("task").ok_or_else(|| ApiError::bad("must provide task name"))?;
    let flag = |name: &str| {
        let text = params.text(name).unwrap_or("false");
        parse_bool(text).ok_or_else(|| {
            ApiError::bad(format!(
                "failed to parse {name} field to boolean: strconv.ParseBool: parsing {text:?}: invalid syntax"
            ))
        })
    };
    let (follow, plain) = (flag("follow")?, flag("plain")?);
    let kind = params.get("type").filter(|kind| matches!(*kind, "stdout" | "stderr"));
    let kind = kind.ok_or_else(|| ApiError::bad("must provide log type (stdout/stderr)"))?;
    let offset = params.text("offset").unwrap_or("0");
    let offset = offset.parse().map_err(|_| {
        ApiError::bad(format!("error parsing offset: strconv.ParseInt: parsing {offset:?}: invalid syntax"))
    })?;
    let origin = params.text("origin").unwrap_or("start");
    if !matches!(origin, "start" | "end") {
        return Err(ApiError::bad("origin must be start or end"));
    }
    Ok(Ask { task, kind, follow, plain, offset, origin })
}

impl Ask<'_> {
    fn path(&self, alloc: &AllocId) -> String {
        let Self { kind, follow, plain, offset, origin, .. } = self;
        let task = percent_encoded(self.task);
        format!(
            "/v1/client/fs/logs/{alloc}?task={task}&type={kind}&follow={follow}&plain={plain}&offset={offset}&origin={origin}"
        )
    }
}

/// Read a task's log
///
/// A stream of frames, or with `plain` of bytes. `{}` is a beat.
#[utoipa::path(get, path = "/v1/client/fs/logs/{alloc_id}", operation_id = "readLogs", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), LogParams),
    responses(
        (status = 200, description = "Frames, or bytes", body = Object, example = json!({"Data": "aGVsbG8K", "File": "alloc/logs/t.stdout.0", "Offset": 6})),
        (status = 400, description = "A parameter is missing or wrong", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no log yet", body = String, content_type = "text/plain")))]
async fn logs(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let ask = ask(&options.params)?;
    let alloc = find(&app, AllocId::from(id)).await?;
    let known = alloc
        .job
        .as_ref()
        .and_then(|job| job.lookup_group(&alloc.task_group))
        .is_none_or(|group| group.lookup_task(ask.task).is_some() || alloc.task_states.contains_key(ask.task));
    if !known {
        return Err(ApiError::bad(format!("unknown task name {:?}", ask.task)));
    }
    let permit = stream_permit(&app)?;
    let target = target(&app, &alloc.node_id).await?;
    let silence = if ask.plain && ask.follow { PLAIN_SILENCE } else { FRAMES_SILENCE };
    let opened = app.http.open(target, Call::get(ask.path(&alloc.id), ANSWER), silence).await;
    let streaming = opened.map_err(|error| refused(&alloc.node_id, error))?;
    let kind = if ask.plain { "text/plain" } else { "application/json" };
    Ok(passed_on(&app, streaming, permit, Some(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_log_is_refused_in_the_reference_s_words() {
        for (pairs, text) in [
            (vec![("type", "stdout")], "must provide task name"),
            (vec![("task", "t"), ("type", "stdin")], "must provide log type (stdout/stderr)"),
            (vec![("task", "t")], "must provide log type (stdout/stderr)"),
            (vec![("task", "t"), ("type", "stdout"), ("origin", "middle")], "origin must be start or end"),
        ] {
            let options = Options::for_test(&pairs);
            assert_eq!(ask(&options.params).err().unwrap().text(), text, "{pairs:?}");
        }
        let options = Options::for_test(&[("task", "t"), ("type", "stdout"), ("follow", "x")]);
        assert!(ask(&options.params).err().unwrap().text().starts_with("failed to parse follow field to boolean: "));
        let options = Options::for_test(&[("task", "t"), ("type", "stdout"), ("offset", "x")]);
        assert!(ask(&options.params).err().unwrap().text().starts_with("error parsing offset: "));
    }

    #[test]
    fn a_task_s_name_cannot_add_to_the_query() {
        let options = Options::for_test(&[("task", "a&b=c/é"), ("type", "stdout")]);
        let path = ask(&options.params).unwrap().path(&"x".into());
        assert!(path.starts_with("/v1/client/fs/logs/x?task=a%26b%3Dc%2F%C3%A9&type=stdout&"), "{path}");
    }
}
