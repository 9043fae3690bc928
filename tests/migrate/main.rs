//! `bulla migrate`, judged by what others sealed: Bitnami's format by a sealer in Go that shares nothing with our
//! reader, and SOPS by SOPS itself. What comes out is opened with `bulla unseal`.

mod bitnami;
mod objects;
mod site;
mod sops;
mod trees;
