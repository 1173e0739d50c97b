//! `top`: in batch mode, and on a terminal of 80 x 24.

mod harness;

use std::process::Command;

use harness::{Directory, small};
use serde_json::{Value, json};
use shmslot::CreateOptions;

#[test]
fn a_batch_shows_segments_with_their_readers_below() {
    let directory = Directory::new();
    let segment = directory.create("camera", &CreateOptions { timestamps: true, ..small() });
    drop(directory.create("idle", &small()));
    let (writer, reader) = (segment.writer().expect("open"), segment.reader(0).expect("join"));
    for _ in 0..3 {
        writer.write(b"x", None).expect("write");
    }
    let _held = reader.read().expect("read").expect("a sample");
    let _loan = writer.reserve(1, None).expect("reserve");

    let ended = directory.run(&["top", "--batch", "-n", "2", "-d", "0.05"]);
    assert_eq!(ended.status, 0, "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(lines.iter().all(|line| line.len() <= 80), "{}", ended.out);
    let words = |start: &str| -> Vec<Vec<String>> {
        let fitting = lines.iter().filter(|line| line.starts_with(start));
        fitting.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let camera = words("camera");
    assert_eq!(camera.len(), 2);
    // Rate, free, loaned, unread, held, lag, lost.
    assert_eq!(camera[0][1..], ["-", "4", "1", "2", "1", "2", "0"]);
    assert_eq!(camera[1][1], "0.0");
    let own = format!("  reader {} {}", reader.index(), std::process::id());
    let below = words(&own);
    assert_eq!(below.len(), 2, "{}", ended.out);
    assert_eq!(words("  writer").len(), 2);
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start));
    assert!(at("camera") < at(&own) && at(&own) < at("idle"), "{}", ended.out);
    assert_eq!(segment.info().expect("info").participants, 1, "it only looks");
}

#[test]
fn a_batch_for_programs_has_rates_and_a_sorted_one_begins_with_the_fastest() {
    let directory = Directory::new();
    drop(directory.create("a-silent", &small()));
    let segment = directory.create("fed", &small());
    let _feeder = directory.start(&["send", "--rate", "500", "--repeat", "0", "-m", "x", "fed"]);
    harness::until("it is fed", || segment.info().expect("info").next_sequence > 5);
    let tables = directory.jsons(&["top", "-n", "2", "-d", "0.3", "--sort", "rate"]);
    let first = &tables[1]["segments"][0];
    assert_eq!(first["name"], "fed", "{tables:?}");
    assert!(first["rate_hz"].as_f64() > Some(0.0), "{first}");
    let names = tables[0]["segments"].as_array().expect("a list").iter();
    let names: Vec<_> = names.map(|one| one["name"].clone()).collect();
    assert_eq!(names, [json!("a-silent"), json!("fed")], "no rate is known at first");
}

/// Runs a command on a terminal of 80 x 24, and presses keys. Each step is a key, or nothing to close
/// the terminal; a text that the
/// screen then must show, and one that it must not show. It waits for both as long as it takes, and
/// gives up after a minute. It prints as JSON which letters of the first screen are coloured, the
/// last screen, and the status of the command.
const TERMINAL: &str = r#"
import fcntl, json, os, pty, pyte, select, struct, sys, termios, time
steps, command = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execv(command[0], command)
screen, drawn = pyte.Screen(80, 24), b""
stream = pyte.ByteStream(screen)
colored, left_open = None, True
def read():
    global drawn, left_open
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            data = b""
        drawn, left_open = drawn + data, bool(data)
        stream.feed(data)
def until(shown, hidden):
    end = time.monotonic() + 60
    while True:
        text = "\n".join(screen.display)
        if shown in text and not (hidden and hidden in text):
            return text
        if time.monotonic() > end or not left_open:
            os.kill(pid, 9)
            sys.exit(f"neither {shown!r} nor without {hidden!r}: {text}")
        read()
text = until("F10 Quit", "")
cells = (cell for y in range(24) for cell in screen.buffer[y].values())
colored = "".join(cell.data for cell in cells if cell.fg != "default")
for key, shown, hidden in steps:
    if key is None: # somebody closes the window
        os.close(terminal)
        left_open = False
        continue
    os.write(terminal, key.encode())
    if shown is not None:
        text = until(shown, hidden)
while left_open:
    read()
_, status = os.waitpid(pid, 0)
print(json.dumps({"colored": colored, "last": text, "left": b"\x1b[?1049l" in drawn,
                  "status": os.waitstatus_to_exitcode(status)}))
"#;

fn on_terminal(directory: &Directory, steps: Value, no_color: bool) -> Value {
    let mut python = Command::new(harness::python());
    python.args(["-c", TERMINAL, &steps.to_string(), harness::PROGRAM, "--dir"]);
    python.arg(&directory.0).args(["top", "--delay", "0.2"]);
    if no_color {
        python.env("NO_COLOR", "1");
    } else {
        python.env_remove("NO_COLOR");
    }
    serde_json::from_str(&harness::run(&mut python)).expect("JSON")
}

#[test]
fn on_a_terminal_keys_work_and_the_screen_is_given_back() {
    let directory = Directory::new();
    let segment = directory.create("camera", &small());
    drop(directory.create("other", &small()));
    let reader = segment.reader(0).expect("join");
    let writer = segment.writer().expect("open");
    // It is full, which is trouble.
    for _ in 0..8 {
        writer.write(b"x", None).expect("write");
    }
    let own = format!("reader {} {}", reader.index(), std::process::id());
    let steps = json!([
        ["?", "Any key goes back", "F10 Quit"],
        ["x", own, "Any key goes back"],
        ["t", "F10 Quit", own],
        ["t", own, ""],
        ["/", "Filter: _", ""],
        ["o", "Filter: o_", "camera"],
        ["t", "Filter: ot_", ""],
        ["\r", "Esc All", "camera"],
        ["q", null, null],
    ]);
    let told = on_terminal(&directory, steps, false);
    assert_eq!((&told["status"], &told["left"]), (&json!(0), &json!(true)), "{told}");
    let last = told["last"].as_str().expect("a screen");
    assert!(last.contains("SEGMENT") && last.contains("other"), "{last}");
    let colored = told["colored"].as_str().expect("text");
    assert!(colored.contains("camera") && !colored.contains("other"), "{colored}");

    let plain = on_terminal(&directory, json!([["\u{3}", null, null]]), true);
    assert_eq!((&plain["status"], &plain["colored"]), (&json!(0), &json!("")), "{plain}");
}

#[test]
fn it_ends_when_its_terminal_is_gone() {
    let directory = Directory::new();
    drop(directory.create("camera", &small()));
    let told = on_terminal(&directory, json!([[null, null, null]]), false);
    assert!(told["status"].is_number(), "{told}");
}

#[test]
fn without_a_terminal_it_asks_for_batch_mode() {
    let ended = Directory::new().run(&["top"]);
    assert_eq!(ended.status, 2);
    assert!(ended.err.contains("use --batch"), "{ended:?}");
}
