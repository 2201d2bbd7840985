//! The port for health, metrics and statistics.
use crate::server::Core;
use std::rc::Rc;
use tokio::net::TcpListener;
/// Answers.
pub async fn serve(_core: Rc<Core>, _listener: TcpListener) {}
