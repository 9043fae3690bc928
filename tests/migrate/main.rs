//! `bulla migrate` with input from other implementations: Bitnami's format from a sealer in Go that shares no code with
//! Bulla's reader, and SOPS files from SOPS itself. `bulla unseal` opens the results.

mod bitnami;
mod objects;
mod site;
mod sops;
mod trees;
