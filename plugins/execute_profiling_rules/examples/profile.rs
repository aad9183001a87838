//! Runs rules natively: `WAYMARK_FILES=plugins/data cargo run --release -p execute_profiling_rules
//! --example profile -- plugins/execute_profiling_rules/input.json`.

use execute_profiling_rules::Profiling;

fn main() -> Result<(), String> {
    waymark_sdk::testing::command_line::<Profiling>()
}
