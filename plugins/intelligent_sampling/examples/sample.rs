//! Draws a sample natively: `WAYMARK_FILES=plugins/data cargo run --release -p intelligent_sampling
//! --example sample -- plugins/intelligent_sampling/input.json`.

use intelligent_sampling::Sampling;

fn main() -> Result<(), String> {
    waymark_sdk::testing::command_line::<Sampling>()
}
