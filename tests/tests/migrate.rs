//! `waymark migrate celery inspect` on a real Celery application, with its worker and messages of its client.

use crate::support::{self, not_run, python, scratch};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use waymark_tests::{World, binary, eventually, redis::Redis};

const APPLICATION: &str = r#"
import os
from datetime import timedelta

from celery import Celery
from celery.schedules import BaseSchedule, crontab


class Tides(BaseSchedule):
    pass


app = Celery("shop", broker=os.environ["BROKER"])
app.conf.timezone = "Europe/Berlin"
app.conf.task_routes = {"shop.report": {"queue": "reports"}}
app.conf.beat_schedule = {
    "nightly report": {"task": "shop.report", "schedule": crontab(minute=30, hour="2,14"), "args": (7,), "options": {"queue": "reports"}},
    "tick": {"task": "shop.add", "schedule": timedelta(seconds=90), "kwargs": {"x": 1, "y": None}, "options": {"expires": 60}},
    "payday": {"task": "shop.report", "schedule": crontab(0, 9, day_of_month="1", day_of_week="mon")},
    "tide": {"task": "shop.add", "schedule": Tides()},
}


@app.task(name="shop.add")
def add(x, y):
    return x + y


@app.task(name="shop.report")
def report(number):
    return number
"#;

/// A worker, ended by its id.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inspect(python: &Path, folder: &Path, broker: &str, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(binary());
    command.args(["migrate", "celery", "inspect", "--python"]).arg(python).args(more);
    command.current_dir(folder).env("BROKER", broker).output().expect("it starts")
}

#[test]
fn a_celery_application_is_written_down_as_configuration_that_a_host_takes() {
    let requirements = waymark_tests::root().join("tests/celery/requirements.txt");
    let python = match python(&scratch("celery"), &requirements) {
        Ok(python) => python,
        Err(error) => return not_run(&format!("a look at Celery: {error}")),
    };
    let redis = Redis::start();
    let broker = format!("{}/0", redis.url());
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("shop.py"), APPLICATION).expect("a file");
    let ask = |code: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", code]).current_dir(folder.path()).env("BROKER", &broker);
        support::done(&mut command).expect("the client sends")
    };
    // More than one priority, and a task that no worker has.
    ask("import shop\n\
         for n in range(3): shop.report.apply_async((n,), priority=n * 3)\n\
         shop.app.send_task('shop.forgotten', queue='reports')");
    let mut worker = Command::new(&python);
    worker.args(["-m", "celery", "-A", "shop", "worker", "-Q", "celery", "-P", "solo", "-n", "old@test"]);
    worker.current_dir(folder.path()).env("BROKER", &broker).stdout(Stdio::null()).stderr(Stdio::null());
    let worker = Worker(worker.spawn().expect("a worker"));
    let said = eventually("the worker answers", waymark_tests::PATIENCE, || {
        let _ = fs::remove_dir_all(folder.path().join("waymark-celery"));
        let output = inspect(&python, folder.path(), &broker, &["--app", "shop"]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        said.contains("1 workers").then_some(said)
    });
    drop(worker);
    assert!(said.contains("3 tasks, 4 schedules; 3 things do not map"), "{said}");
    let read =
        |file: &str| fs::read_to_string(folder.path().join("waymark-celery").join(file)).expect("a file");
    let (celery, schedules, report) = (read("celery.toml"), read("schedules.toml"), read("report.md"));
    assert!(report.contains("| `shop.report` | `shop_report` | 3 | 1 |"), "{report}");
    assert!(report.contains("| `shop.forgotten` | `shop_forgotten` | 1 | 0 |"), "{report}");
    assert!(report.contains("| `reports` | 4 |  |"), "{report}");
    for left in [
        "`payday` is left out: day of month",
        "`tide` is left out: a schedule of type Tides",
        "options expires",
    ] {
        assert!(report.contains(left), "{report}");
    }
    assert!(celery.contains("queues = [\"celery\", \"reports\"]"), "{celery}");
    assert!(celery.contains("type = \"shop_add\""), "{celery}");
    let again = inspect(&python, folder.path(), &broker, &["--app", "shop"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "nothing is written over");

    // A host takes the schedules, and holds them until they are resumed.
    let world = World::new(&schedules);
    let host = world.host(&["noop"]);
    let report = host.get("/api/v1/schedules/nightly_report").expect(200);
    assert_eq!((&report["cron"], &report["timezone"]), (&"30 2,14 * * *".into(), &"Europe/Berlin".into()));
    assert_eq!(report["status"], "paused", "{report}");
    assert_eq!(report["job"]["input"], serde_json::json!({"args": [7], "kwargs": {}}), "{report}");
    assert_eq!(host.get("/api/v1/schedules/tick").expect(200)["every_ms"], 90_000);
    assert_eq!(host.get("/api/v1/schedules/tide").status, 404);
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = TempDir::new().expect("a folder");
    let refused = |more: &[&str]| {
        let output = inspect(Path::new("python3"), folder.path(), "", more);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert!(refused(&[]).contains("--broker"));
    assert!(
        refused(&["--broker", "redis://127.0.0.1:9/0", "--beat", "absent.py"])
            .contains("absent.py is not a file")
    );
    let output =
        inspect(Path::new("/nowhere/python"), folder.path(), "", &["--broker", "redis://127.0.0.1:9/0"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("/nowhere/python cannot be started"),
        "{output:?}"
    );
}
