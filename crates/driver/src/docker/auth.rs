//! Who is asked for credentials of a registry, in order: the task, the operator's `config.json` (its own
//! entries, its helper for the registry, its store), the operator's helper. Nobody: the pull is anonymous.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::config::TaskAuth;
use super::options::Auth;

const HELPER_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const HUB: &str = "https://index.docker.io/v1/";

/// The host part of a reference; what names none is the hub's.
pub(super) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

/// The file that `docker login` writes, as far as it matters.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Finds credentials for `image`.
///
/// # Errors
/// A sentence without secrets: the file or a helper cannot be used.
pub(super) async fn find(
    auth: &Auth,
    task: Option<&TaskAuth>,
    image: &str,
) -> Result<Option<DockerCredentials>, String> {
    let registry = registry(image);
    if let Some(task) = task.filter(|task| !task.username.is_empty() || !task.password.is_empty()) {
        let server = if task.server_address.is_empty() { registry } else { &task.server_address };
        let mut found = credentials(&task.username, &task.password, server);
        found.email = (!task.email.is_empty()).then(|| task.email.clone());
        return Ok(Some(found));
    }
    if !auth.config.is_empty()
        && let Some(found) = from_file(&auth.config, registry).await?
    {
        return Ok(Some(found));
    }
    if auth.helper.is_empty() { Ok(None) } else { ask(&auth.helper, registry).await }
}

fn credentials(username: &str, password: &str, server: &str) -> DockerCredentials {
    DockerCredentials {
        username: Some(username.to_owned()),
        password: Some(password.to_owned()),
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    }
}

async fn from_file(path: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("registry credentials in {path} cannot be read: {e}");
    let text = tokio::fs::read_to_string(path).await.map_err(|e| failed(&e))?;
    // The parser's own words may quote what it read.
    let file: File = serde_json::from_str(&text).map_err(|e| failed(&format!("line {} is wrong", e.line())))?;
    let same = |key: &str| bare(key) == bare(registry);
    if let Some((_, entry)) = file.auths.iter().find(|(key, _)| same(key))
        && let Some(found) = of_entry(entry, registry).map_err(|e| failed(&e))?
    {
        return Ok(Some(found));
    }
    if let Some((_, helper)) = file.helpers.iter().find(|(key, _)| same(key)) {
        return ask(helper, registry).await;
    }
    if file.store.is_empty() { Ok(None) } else { ask(&file.store, registry).await }
}

/// `https://host/v1/` and `host` are the same registry.
fn bare(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn of_entry(entry: &Entry, registry: &str) -> Result<Option<DockerCredentials>, &'static str> {
    if !entry.identitytoken.is_empty() {
        let token = Some(entry.identitytoken.clone());
        let serveraddress = Some(registry.to_owned());
        return Ok(Some(DockerCredentials { identitytoken: token, serveraddress, ..DockerCredentials::default() }));
    }
    if !entry.username.is_empty() {
        return Ok(Some(credentials(&entry.username, &entry.password, registry)));
    }
    if entry.auth.is_empty() {
        return Ok(None);
    }
    let decoded = STANDARD.decode(&entry.auth).map_err(|_| "an auth entry is not base64")?;
    let text = String::from_utf8(decoded).map_err(|_| "an auth entry is not text")?;
    let (user, password) = text.split_once(':').ok_or("an auth entry is not user:password")?;
    Ok(Some(credentials(user, password.trim_end_matches('\0'), registry)))
}

/// Asks `docker-credential-<helper>`.
async fn ask(helper: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    if !helper.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err(format!("credential helper {helper:?} cannot be part of a program's name"));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |e: &dyn std::fmt::Display| format!("credential helper {program} failed: {e}");
    let talking = async {
        let mut child = tokio::process::Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read is not wrong.
            let _ = stdin.write_all(registry.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    let talked = tokio::time::timeout(HELPER_MAX, talking).await;
    let (status, answer) = talked.map_err(|_| failed(&"no answer in time"))?.map_err(|e| failed(&e))?;
    if !status.success() {
        // That is how helpers say that they know none.
        let none = String::from_utf8_lossy(&answer).contains("credentials not found");
        return if none { Ok(None) } else { Err(failed(&status)) };
    }
    let answer: Answer = serde_json::from_slice(&answer).map_err(|_| failed(&"its answer is no credentials"))?;
    if answer.username == "<token>" {
        let serveraddress = Some(registry.to_owned());
        let identitytoken = Some(answer.secret);
        return Ok(Some(DockerCredentials { identitytoken, serveraddress, ..DockerCredentials::default() }));
    }
    Ok(Some(credentials(&answer.username, &answer.secret, registry)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_read_off_the_reference() {
        for (image, host) in [
            ("busybox", HUB),
            ("library/busybox:1", HUB),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000"),
            ("registry.internal/a/b", "registry.internal"),
            ("localhost/a", "localhost"),
        ] {
            assert_eq!(registry(image), host, "{image}");
        }
    }

    #[tokio::test]
    async fn the_task_comes_first_then_the_file_then_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let auth = STANDARD.encode("file:pass:word");
        let text = format!("{{\"auths\": {{\"https://r.internal/v1/\": {{\"auth\": \"{auth}\"}}}}}}");
        std::fs::write(&path, text).unwrap();
        let auth = Auth { config: path.to_string_lossy().into_owned(), helper: String::new() };
        let task = TaskAuth { username: "task".into(), password: "p".into(), ..TaskAuth::default() };
        let found = find(&auth, Some(&task), "r.internal/a:1").await.unwrap().unwrap();
        assert_eq!((found.username.as_deref(), found.serveraddress.as_deref()), (Some("task"), Some("r.internal")));
        let found = find(&auth, None, "r.internal/a:1").await.unwrap().unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("file"), Some("pass:word")));
        assert_eq!(find(&auth, None, "other.internal/a").await.unwrap(), None);
        std::fs::write(&path, "{\"auths\": \"geheim\"}").unwrap();
        let error = find(&auth, None, "r.internal/a").await.unwrap_err();
        assert!(error.contains("config.json") && !error.contains("geheim"), "{error}");
    }
}
