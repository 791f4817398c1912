// The reasons for losses and for the ends of connections, in words: what happened, and what an operator can do.

export const LOSSES = {
  overflow: "The queue of a slow subscriber was full. See the slowest consumers; raise SUBSCRIBER_QUEUE_SIZE only for short bursts.",
  expired: "The message was older than its ttl_sec before the subscriber took it.",
  slow_consumer: "It waited for a subscriber that was closed because it read nothing.",
  disconnected: "It waited for a subscriber whose connection ended. It gets the message if it resumes in time.",
};

export const ENDINGS = {
  going_away: "The server shut down and told it to reconnect.",
  protocol_error: "It sent what is no WebSocket. Mend the client, or look for a proxy between.",
  invalid_text: "It sent text that is not UTF-8.",
  message_timeout: "It began a message and did not end it within READ_TIMEOUT_SEC.",
  flooding: "It went on over its rate of requests.",
  too_big: "It sent more than MAX_MESSAGE_BYTES.",
  server_failure: "A fault of the server: see its log.",
  slow_consumer: "Its queue was full and it read nothing for WRITE_WAIT_SEC.",
  too_many_connections: "It connected to several servers at once, and had more than MAX_CONNECTIONS_PER_CLIENT.",
  unauthorized: "Its token was missing, invalid or expired.",
  disconnected: "An operator disconnected it.",
  closed_by_client: "It closed the connection itself.",
  no_topic: "The last topic of a stream was deleted.",
  hung_up: "It ended the connection without a close frame.",
  lost: "The network lost it.",
  reset: "The connection was reset.",
  silent: "It gave no sign of life for PONG_WAIT_SEC.",
  shutdown_timeout: "It had not taken everything when the time of the shutdown was over.",
  fault: "An internal error: see the log.",
};

export const OUTCOMES = {
  sent: "The message was handed to its socket.",
  queued: "The message waits until the client reads.",
  filtered: "The filter of the subscription did not match it.",
  dropped: "The queue of the client was full.",
  expired: "The message was too old before the client took it.",
  not_subscribed: "It had no subscription to this topic then.",
  forbidden: "Its rights do not cover this topic.",
  disconnected: "The connection ended before the message was taken.",
  unknown: "What happened is no longer kept.",
};
