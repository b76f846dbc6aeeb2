//! What users of such systems suffer from: the line, the cloud or a disk is bad for a while, and
//! everything has to be right afterwards. In one process, so that it can be done often.

mod autonomy;
mod back;
mod cuts;
mod informer;
mod replaced;
