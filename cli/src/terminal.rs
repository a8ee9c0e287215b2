//! The terminal of whoever sits in front of a session: raw input, its size, the escape that ends it.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Input that waits to be sent.
const QUEUE: usize = 16;
const PIECE_BYTES: usize = 4096;

/// Whether both ends of a session would be a terminal.
pub fn both_are_terminals() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// The terminal without line editing and signals; dropped, it is as it was.
pub struct Raw(Termios);

impl Raw {
    /// # Errors
    /// stdin is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Rows and columns.
pub fn size() -> Option<(u16, u16)> {
    tcgetwinsize(io::stdout()).ok().map(|size| (size.ws_row, size.ws_col))
}

/// What is typed. Read by a thread that nobody waits for: a read cannot be cancelled.
pub fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        use io::Read as _;
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(read @ 1..) = io::stdin().lock().read(&mut buffer) {
            if sender.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What typed bytes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    Bytes(Vec<u8>),
    /// These, and then the session is to end.
    End(Vec<u8>),
}

/// Finds the escape character at the beginning of a line: with a dot it ends the session, twice it is itself.
#[derive(Clone, Copy, Debug)]
pub struct Escape {
    /// `None`: nothing is special.
    character: Option<u8>,
    line_begins: bool,
    escaped: bool,
}

impl Escape {
    /// `none` and the empty text turn it off.
    ///
    /// # Errors
    /// It is more than one character.
    pub fn parse(text: &str) -> Result<Self, String> {
        let character = match text.as_bytes() {
            [] => None,
            [one] => Some(*one),
            _ if text == "none" => None,
            _ => return Err(format!("-e requires 'none' or a single character, got {text:?}")),
        };
        Ok(Self { character, line_begins: true, escaped: false })
    }

    /// Takes the next piece of input.
    pub fn take(&mut self, piece: &[u8]) -> Typed {
        let Some(character) = self.character else { return Typed::Bytes(piece.to_vec()) };
        let mut out = Vec::with_capacity(piece.len() + 1);
        for &byte in piece {
            if std::mem::take(&mut self.escaped) {
                match byte {
                    b'.' => return Typed::End(out),
                    byte if byte == character => {}
                    _ => out.push(character),
                }
                out.push(byte);
            } else if self.line_begins && byte == character {
                self.escaped = true;
                continue;
            } else {
                out.push(byte);
            }
            self.line_begins = matches!(byte, b'\r' | b'\n');
        }
        Typed::Bytes(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(escape: &str, pieces: &[&str]) -> (String, bool) {
        let (mut escape, mut all) = (Escape::parse(escape).unwrap(), Vec::new());
        for piece in pieces {
            match escape.take(piece.as_bytes()) {
                Typed::Bytes(bytes) => all.extend(bytes),
                Typed::End(bytes) => {
                    all.extend(bytes);
                    return (String::from_utf8(all).unwrap(), true);
                }
            }
        }
        (String::from_utf8(all).unwrap(), false)
    }

    #[test]
    fn an_escape_and_a_dot_at_the_beginning_of_a_line_end_the_session() {
        assert_eq!(typed("~", &["ls\r", "~", ".rest"]), ("ls\r".to_owned(), true));
        assert_eq!(typed("~", &["~."]), (String::new(), true));
        assert_eq!(typed("~", &["a~."]), ("a~.".to_owned(), false));
        assert_eq!(typed("~", &["~~."]), ("~.".to_owned(), false));
        assert_eq!(typed("~", &["~a\n~/x"]), ("~a\n~/x".to_owned(), false));
        assert_eq!(typed("^", &["~.\r^."]), ("~.\r".to_owned(), true));
        assert_eq!(typed("none", &["~."]), ("~.".to_owned(), false));
        assert!(Escape::parse("ab").is_err());
    }
}
