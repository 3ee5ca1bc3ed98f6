//! The agent's hands on a real machine: real users, processes, terminals and shells.

#[cfg(test)]
mod exec;
#[cfg(test)]
mod holder;
#[cfg(test)]
mod marks;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod user;
#[cfg(test)]
mod world;
