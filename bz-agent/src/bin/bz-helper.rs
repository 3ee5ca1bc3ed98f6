//! The helper alone, for programs that ship it beside themselves and name it with `Helper::at`.
//! Started by hand it does nothing.

fn main() {
    drop(bz_agent::helper::enter());
}
