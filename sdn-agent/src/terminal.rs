//! Text for people: tables as wide as the terminal, colours only on one. Piped, a row is a line.

use std::io::{self, IsTerminal};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Columns; `None`: no terminal, lines may be as long as they like.
    pub width: Option<u16>,
    /// Colours are wanted.
    pub colours: bool,
}

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Not as it should be.
    Bad,
}

// === impl Terminal ===

impl Terminal {
    /// No terminal: what a pipe gets.
    pub const NONE: Self = Self { width: None, colours: false };

    /// What standard output is; NO_COLOR turns colours off.
    pub fn stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::NONE;
        }
        let width = terminal_size::terminal_size().map(|(terminal_size::Width(columns), _)| columns);
        Self { width, colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// The text in the colour of its tone.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Doubtful => 33,
            Tone::Bad => 31,
        };
        if self.colours { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A table without lines, with a newline at its end.
    pub fn table<const N: usize>(self, titles: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
        self.toned_table(titles, rows, "", |_| None)
    }

    /// A table in which the words of one column have a tone.
    pub fn toned_table<const N: usize>(
        self,
        titles: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
        toned: &str,
        tone: impl Fn(&str) -> Option<Tone>,
    ) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(titles);
        match self.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        for row in rows {
            table.add_row(row.map(printable));
        }
        table.column_iter_mut().for_each(|column| _ = column.set_padding((0, 2)));
        let lines: Vec<String> = table.lines().collect();
        let column = lines.first().and_then(|header| header.find(toned)).filter(|_| !toned.is_empty());
        let paint = |line: &String| match column {
            Some(column) => self.paint_word(line, column, &tone),
            None => line.clone(),
        };
        lines.iter().map(|line| format!("{}\n", paint(line).trim_end())).collect()
    }

    /// Paints the word that begins at a column. Titles are ASCII, so bytes of the header are columns of every line.
    fn paint_word(self, line: &str, column: usize, tone: &impl Fn(&str) -> Option<Tone>) -> String {
        let Some((start, _)) = line.char_indices().nth(column) else { return line.to_owned() };
        let word = line[start..].split("  ").next().unwrap_or_default().trim_end();
        match tone(word) {
            Some(tone) => format!("{}{}{}", &line[..start], self.paint(word, tone), &line[start + word.len()..]),
            None => line.to_owned(),
        }
    }
}

/// Without control characters: names in it may come from anywhere, and a terminal obeys them.
pub fn printable(text: String) -> String {
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<[String; 3]> {
        let row = |a: &str, b: &str, c: &str| [a.to_owned(), b.to_owned(), c.to_owned()];
        vec![row("kernel", "ok", "Linux 6.18"), row("überlang", "FAILED", "something that is longer than the rest")]
    }

    fn tone(word: &str) -> Option<Tone> {
        (word == "FAILED").then_some(Tone::Bad)
    }

    #[test]
    fn a_pipe_gets_plain_lines() {
        let text = Terminal::NONE.toned_table(["CHECK", "RESULT", "FOUND"], rows(), "RESULT", tone);
        assert_eq!(
            text,
            "CHECK     RESULT  FOUND\n\
             kernel    ok      Linux 6.18\n\
             überlang  FAILED  something that is longer than the rest\n"
        );
    }

    #[test]
    fn a_terminal_gets_colours_and_its_width() {
        let terminal = Terminal { width: Some(40), colours: true };
        let text = terminal.toned_table(["CHECK", "RESULT", "FOUND"], rows(), "RESULT", tone);
        assert!(text.contains("überlang  \x1b[1;31mFAILED\x1b[0m  something"), "{text}");
        assert!(text.lines().all(|line| line.replace("\x1b[1;31m", "").replace("\x1b[0m", "").chars().count() <= 40));
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn names_cannot_command_a_terminal() {
        let text = Terminal::NONE.table(["NAME"], [["\x1b]0;owned\x07".to_owned()]]);
        assert_eq!(text, "NAME\n\u{fffd}]0;owned\u{fffd}\n");
    }
}
