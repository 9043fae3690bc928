//! The crate as its callers see it: which values open, which are refused and why, and that nothing panics.

#[cfg(test)]
mod forged;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod recipients;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod rekey;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod vectors;
