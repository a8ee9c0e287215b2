//! Where a command's words go: data on stdout, everything else on stderr; colours only on a terminal.
//!
//! A reader that went away (`steppe job status | head`) is no error: what follows is dropped, and
//! [`Ui::is_closed`] lets endless commands end.

use std::cell::LazyCell;
use std::io::{self, IsTerminal, Write};

use jiff::tz::TimeZone;

use crate::env::{self, Env};

/// Colours by what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Bold,
    Dim,
    Good,
    Bad,
    Warn,
}

/// The terminal, or what stands for it in tests.
pub struct Ui {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// stdout shows ANSI colours.
    pub colour: bool,
    /// stderr shows ANSI colours.
    pub colour_err: bool,
    /// stdout is a terminal whose lines may be drawn again.
    pub live: bool,
    /// stdin is a terminal that somebody may answer at.
    pub interactive: bool,
    /// Reading it looks into the time zone database, which a service never needs.
    pub zone: LazyCell<TimeZone>,
    clock: fn() -> i64,
    closed: bool,
}

impl Ui {
    /// The process's own streams.
    pub fn of_process(env: &Env) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let allowed = !env.is_on(env::NO_COLOR) && env.get(&["TERM"]) != Some("dumb");
        let forced = env.is_on(env::FORCE_COLOR);
        Self {
            colour: forced || allowed && out.is_terminal(),
            colour_err: forced || allowed && err.is_terminal(),
            live: out.is_terminal() && env.get(&["TERM"]) != Some("dumb"),
            interactive: io::stdin().is_terminal() && err.is_terminal(),
            zone: LazyCell::new(TimeZone::system),
            clock: now_unix_ns,
            closed: false,
            out: Box::new(out),
            err: Box::new(err),
        }
    }

    /// Streams of a test: no terminal, UTC, a clock that stands.
    pub fn fixed(out: Box<dyn Write>, err: Box<dyn Write>, clock: fn() -> i64) -> Self {
        let zone = LazyCell::new((|| TimeZone::UTC) as fn() -> TimeZone);
        Self { out, err, colour: false, colour_err: false, live: false, interactive: false, zone, clock, closed: false }
    }

    /// Unix nanoseconds.
    pub fn now(&self) -> i64 {
        (self.clock)()
    }

    /// What `-no-color` and `-force-color` say.
    pub fn set_colour(&mut self, on: bool) {
        (self.colour, self.colour_err) = (on, on);
    }

    /// A line of data.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.raw(text.as_ref().as_bytes());
        self.raw(b"\n");
    }

    /// Bytes of data.
    pub fn raw(&mut self, bytes: &[u8]) {
        if !self.closed && self.out.write_all(bytes).and_then(|()| self.out.flush()).is_err() {
            self.closed = true;
        }
    }

    /// A line about the work.
    pub fn note(&mut self, text: impl AsRef<str>) {
        self.raw_err(text.as_ref().as_bytes());
        self.raw_err(b"\n");
    }

    /// Bytes that are a task's own stderr.
    pub fn raw_err(&mut self, bytes: &[u8]) {
        // Nobody is left to tell.
        let _ = self.err.write_all(bytes).and_then(|()| self.err.flush());
    }

    /// An error, in red where there are colours.
    pub fn error(&mut self, text: &str) {
        let text = text.trim_end();
        let painted = if self.colour_err { paint(Tone::Bad, text) } else { text.to_owned() };
        self.note(painted);
    }

    /// What to do about an error.
    pub fn hint(&mut self, text: &str) {
        let word = if self.colour_err { paint(Tone::Good, "hint:") } else { "hint:".to_owned() };
        self.note(format!("{word} {text}"));
    }

    /// A warning of the cluster's.
    pub fn warn(&mut self, text: &str) {
        let painted = if self.colour_err { paint(Tone::Warn, text) } else { text.to_owned() };
        self.note(painted);
    }

    /// Colours a piece of stdout's text.
    pub fn tone(&self, tone: Tone, text: &str) -> String {
        if self.colour { paint(tone, text) } else { text.to_owned() }
    }

    pub fn bold(&self, text: &str) -> String {
        self.tone(Tone::Bold, text)
    }

    /// Nobody reads stdout any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Asks on stderr; only an explicit yes is one.
    pub fn confirm(&mut self, question: &str) -> bool {
        matches!(self.answer(&format!("{question} [y/N] ")).as_str(), "y" | "Y" | "yes")
    }

    /// Asks on stderr; what was typed, empty if nothing could be read.
    pub fn answer(&mut self, question: &str) -> String {
        self.raw_err(question.as_bytes());
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(_) => answer.trim().to_owned(),
            Err(_) => String::new(),
        }
    }
}

fn paint(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Bold => "1",
        Tone::Dim => "2",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warn => "33",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

fn now_unix_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
