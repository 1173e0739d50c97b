//! The table on a terminal, with the keys of htop.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::Paragraph;
use ratatui::{DefaultTerminal, Frame};

use super::model::Model;
use super::rows::{self, About, Row};
use super::{Sort, Top};
use crate::failure::{Failure, Outcome};
use crate::pattern;
use crate::shell::Shell;
use crate::stop::Stop;

const HELP: &str = "\
shmslot top

A segment stands at the left, its readers, its writers that have loans and its
dead processes below it. It is only looked at: no reader's place is taken.

  RATE/s   samples committed in a second
  FREE     slots that are free, LOAN that writers have
  UNREAD   slots or samples that are not read yet
  HELD     samples that are read and not marked
  OLDEST   how long ago the oldest held sample was committed, or, where the
           segment keeps no times, how many samples ago
  LAG      samples from the next one of the reader to the newest
  LOST     samples that drop-oldest took from the reader

  up, down, page up, page down, home, end   move
  F4 \\ /   show only segments whose names contain a text; Esc shows all
  F5 t     show or hide what is below the segments
  F6 s     sort by name, by rate, or by free slots
  F10 q    quit

Any key goes back.";

/// How often it looks for a signal while no key is pressed.
const PIECE: Duration = Duration::from_millis(100);

struct Screen {
    children: bool,
    sort: Sort,
    /// The first row that is shown.
    first: usize,
    filter: String,
    mode: Mode,
    colors: bool,
}

#[derive(PartialEq, Eq)]
enum Mode {
    Table,
    Help,
    /// The filter is being typed.
    Filter,
}

pub(super) fn run(top: &Top, shell: &Shell, stop: &Stop, model: &mut Model) -> Outcome {
    let failed = |error| Failure::failed(format!("cannot use the terminal: {error}"));
    model.refresh(shell, &top.names, top.sort)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    // Whatever comes, the terminal is left as it was.
    let done = Screen::new(top.sort).run(&mut terminal, top, shell, stop, model);
    ratatui::try_restore().map_err(failed)?;
    done
}

/// Waits until a key may have been pressed; false if the terminal is gone. After that, to ask for a
/// key would take for ever.
fn waits_for_key(keyboard: &File, wait: Duration) -> Outcome<bool> {
    let mut keys = [PollFd::new(keyboard.as_fd(), PollFlags::POLLIN)];
    let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    match poll(&mut keys, wait) {
        // A signal: the size of the terminal may have changed.
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(Failure::failed(format!("cannot use the terminal: {error}"))),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    Ok(keys.iter().all(|keys| keys.revents().is_none_or(|told| !told.intersects(gone))))
}

impl Screen {
    fn new(sort: Sort) -> Screen {
        let colors = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { children: true, sort, first: 0, filter: String::new(), mode: Mode::Table, colors }
    }

    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        top: &Top,
        shell: &Shell,
        stop: &Stop,
        model: &mut Model,
    ) -> Outcome {
        let failed = |error| Failure::failed(format!("cannot use the terminal: {error}"));
        let mut left = top.iterations.unwrap_or(u64::MAX);
        let keyboard = File::open("/dev/tty").map_err(failed)?;
        let mut next = Instant::now() + top.delay;
        let mut is_drawn = false;
        while left > 0 && !stop.is_stopped() {
            if !is_drawn {
                terminal.draw(|frame| self.draw(frame, model)).map_err(failed)?;
                is_drawn = true;
            }
            let wait = next.saturating_duration_since(Instant::now()).min(PIECE);
            if !waits_for_key(&keyboard, wait)? {
                return Ok(());
            }
            if event::poll(Duration::ZERO).map_err(failed)? {
                // The size of the terminal may have changed.
                is_drawn = false;
                let event = event::read().map_err(failed)?;
                if event.as_key_press_event().is_some_and(|key| !self.key(key, model)) {
                    return Ok(());
                }
            }
            if Instant::now() >= next {
                model.refresh(shell, &top.names, self.sort)?;
                next = Instant::now() + top.delay;
                left -= 1;
                is_drawn = false;
            }
        }
        Ok(())
    }

    /// False if it ends.
    fn key(&mut self, key: KeyEvent, model: &mut Model) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return false;
        }
        match self.mode {
            Mode::Help => self.mode = Mode::Table,
            Mode::Filter => match key.code {
                KeyCode::Enter => self.mode = Mode::Table,
                KeyCode::Esc => {
                    self.filter.clear();
                    self.mode = Mode::Table;
                }
                KeyCode::Backspace => {
                    self.filter.pop();
                }
                KeyCode::Char(c) => self.filter.push(c),
                _ => {}
            },
            Mode::Table => match key.code {
                KeyCode::Char('q') | KeyCode::F(10) => return false,
                KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
                KeyCode::Char('/' | '\\') | KeyCode::F(3 | 4) => self.mode = Mode::Filter,
                KeyCode::Esc => self.filter.clear(),
                KeyCode::Char('t') | KeyCode::F(5) => self.children = !self.children,
                KeyCode::Char('s') | KeyCode::F(6) => {
                    self.sort = self.sort.next();
                    model.sort(self.sort);
                }
                KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
                KeyCode::Down | KeyCode::Char('j') => self.first = self.first.saturating_add(1),
                KeyCode::PageUp => self.first = self.first.saturating_sub(10),
                KeyCode::PageDown => self.first = self.first.saturating_add(10),
                KeyCode::Home => self.first = 0,
                KeyCode::End => self.first = usize::MAX,
                _ => {}
            },
        }
        true
    }

    fn draw(&mut self, frame: &mut Frame<'_>, model: &Model) {
        if self.mode == Mode::Help {
            frame.render_widget(Paragraph::new(HELP), frame.area());
            return;
        }
        let parts = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(0)];
        let [title, heads, table, foot] =
            Layout::vertical(parts.into_iter().chain([Constraint::Length(1)])).areas(frame.area());
        let width = usize::from(frame.area().width);
        frame.render_widget(Line::raw(rows::title(model)), title);
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        frame.render_widget(Line::styled(rows::heads(width), reversed), heads);

        let rows: Vec<Row> = self.shown(model);
        let height = usize::from(table.height);
        self.first = self.first.min(rows.len().saturating_sub(height));
        let shown = rows.iter().skip(self.first).take(height);
        let lines: Vec<Line<'_>> =
            shown.map(|row| Line::styled(row.line(width), self.style(row.about))).collect();
        frame.render_widget(Text::from(lines), table);
        let keys = match self.mode {
            Mode::Filter => format!("Filter: {}_", self.filter),
            _ if !self.filter.is_empty() => {
                format!("F4 Filter: {}   Esc All   F10 Quit", self.filter)
            }
            _ => "F1 Help  F4 Filter  F5 Tree  F6 Sort  F10 Quit".to_owned(),
        };
        frame.render_widget(Line::styled(format!("{keys:width$}"), reversed), foot);
    }

    /// The rows of the segments that pass the filter.
    fn shown(&self, model: &Model) -> Vec<Row> {
        let filter = [format!("*{}*", self.filter)];
        rows::of(model, self.children, |name| pattern::fits_any(&filter, name))
    }

    fn style(&self, about: About) -> Style {
        let style = Style::new();
        match about {
            About::Segment => style.add_modifier(Modifier::BOLD),
            About::Child => style,
            About::Trouble if self.colors => style.fg(Color::Red),
            About::Trouble => style.add_modifier(Modifier::UNDERLINED),
        }
    }
}
