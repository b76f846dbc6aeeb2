//! The socket file; what is said over it is tested where there is a table.

use std::os::unix::fs::PermissionsExt;

use super::UnixSocket;

#[tokio::test]
async fn a_path_that_is_too_long_for_a_socket_is_told_with_both_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x".repeat(120));
    let error = UnixSocket::bind(&path).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("at most 107 bytes"), "{cause}");
    assert!(cause.contains("name a shorter one"), "{cause}");
}

#[tokio::test]
async fn the_longest_path_that_a_socket_can_have_is_served_with_a_mode_of_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let room = 107 - folder.path().as_os_str().len() - 1;
    let path = folder.path().join("y".repeat(room));
    let socket = UnixSocket::bind(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    tokio::net::UnixStream::connect(&path).await.unwrap();
    drop(socket);
    assert!(!path.exists());
}
