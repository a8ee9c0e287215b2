//! The log that a machine keeps in a file, as far as it goes.
//!
//! Its gateway, or else its agent, reads the file: `log_file` as it is when it is asked for. What journald keeps is
//! journald's own to show, on the machine.

use api::process::LOG_FILE;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use client::error::CallError;
use client::http::Call;
use futures::TryStreamExt as _;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::{ANSWER, stream_permit, taken};
use super::monitor::{SILENCE, answer, flag, frames, keeper};
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::{Options, Params};
use crate::processes;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct ExportParams {
    /// The file of `log_file`.
    on_disk: Option<bool>,
    /// What journald keeps of this unit: refused, `journalctl -u` on the machine shows it.
    service_name: Option<String>,
    /// With `service_name`: go on.
    follow: Option<bool>,
    /// With `service_name`: not older than this.
    logs_since: Option<String>,
    /// The lines themselves, without frames.
    plain: Option<bool>,
    /// The machine of this node, by its full id.
    node_id: Option<String>,
    /// The machine of this server: its name, with or without the region, or `leader`.
    server_id: Option<String>,
}

/// Whether the lines are wanted plain.
fn checked(params: &Params) -> Result<bool, ApiError> {
    let (on_disk, follow) = (flag(params, "on_disk", "on disk")?, flag(params, "follow", "follow")?);
    let plain = flag(params, "plain", "plain")?;
    let unit = params.text("service_name").unwrap_or_default();
    match () {
        () if on_disk && !unit.is_empty() => {
            Err(ApiError::bad("Cannot target journald and nomad log file simultaneously"))
        }
        () if !on_disk && unit.is_empty() => Err(ApiError::bad("Either -service-name or -on-disk must be set")),
        () if on_disk && follow => Err(ApiError::bad("Cannot follow log file")),
        () if on_disk => Ok(plain),
        () if !is_unit(unit) => {
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{unit:?} is no name of a systemd unit")))
        }
        () => {
            let text = format!("journald is not read from here: on the machine, `journalctl -u {unit}` shows it");
            Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, text))
        }
    }
}

fn is_unit(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':');
    name.len() <= 255 && !name.starts_with('-') && name.bytes().all(letter)
}

/// Read a machine's log file
///
/// What the machine asked, or named, has in its `log_file`: its processes' lines, each with the name of its process.
/// Frames, or with `plain` lines.
#[utoipa::path(get, path = "/v1/agent/monitor/export", operation_id = "exportLog", tag = "agent", params(ExportParams),
    responses(
        (status = 200, description = "Frames, or lines", body = Object, example = json!({"Data": "aGVsbG8K"})),
        (status = 400, description = "A parameter is wrong", body = String, content_type = "text/plain"),
        (status = 404, description = "No such machine, or it keeps no such file", body = String, content_type = "text/plain"),
        (status = 422, description = "Not a unit's name", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many streams", body = String, content_type = "text/plain"),
        (status = 501, description = "What journald keeps", body = String, content_type = "text/plain"),
        (status = 503, description = "The machine does not answer", body = String, content_type = "text/plain")))]
async fn export(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    let plain = checked(&options.params)?;
    let both = "Cannot target node and server simultaneously";
    let machine = processes::named(&app, &asked, &options.params, both).await?;
    let silent = || ApiError::not_ready("the machine does not answer at the moment");
    let target = keeper(&machine).ok_or_else(silent)?.target(&app).await.ok_or_else(silent)?;
    let permit = stream_permit(&app)?;
    let streaming = match app.http.open(target, Call::get(LOG_FILE, ANSWER), SILENCE).await {
        Ok(streaming) => streaming,
        Err(CallError::Status { body, .. }) if body.code() == api::Code::NotFound => {
            return Err(ApiError::not_found(body.message));
        }
        Err(error) => {
            tracing::debug!(%error, "log file of a machine cannot be read");
            return Err(silent());
        }
    };
    let pieces = streaming.into_stream().map_ok(move |piece| if plain { piece } else { Bytes::from(frames(&piece)) });
    Ok(answer(Body::from_stream(taken(pieces, permit)), plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_exported_is_refused_in_the_reference_s_words() {
        let said = |pairs: &[(&str, &str)]| match checked(&Options::for_test(pairs).params) {
            Ok(_) => String::new(),
            Err(error) => format!("{} {}", error.status().as_u16(), error.text()),
        };
        assert_eq!(said(&[]), "400 Either -service-name or -on-disk must be set");
        let both = [("on_disk", "true"), ("service_name", "steppe")];
        assert_eq!(said(&both), "400 Cannot target journald and nomad log file simultaneously");
        assert_eq!(said(&[("on_disk", "true"), ("follow", "true")]), "400 Cannot follow log file");
        for bad in ["-x", "a b", "a;b", "a/b"] {
            assert!(said(&[("service_name", bad)]).starts_with("422 "), "{bad}");
        }
        assert!(said(&[("service_name", "steppe.service")]).starts_with("501 "));
        assert_eq!(said(&[("on_disk", "true"), ("plain", "true")]), "");
    }
}
