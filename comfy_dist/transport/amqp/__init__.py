"""The transport over RabbitMQ."""

from comfy_dist.transport.amqp.transport import AmqpTransport

__all__ = ["AmqpTransport"]
