//! edgecore as a whole, against a cloud of our making.

mod certs;
mod link;
mod support;
