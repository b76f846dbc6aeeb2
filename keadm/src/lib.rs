//! keadm
