"""The transport over RabbitMQ."""

from comfy_dist.transport.amqp.foreign import tolerate
from comfy_dist.transport.amqp.transport import AmqpTransport

tolerate()

__all__ = ["AmqpTransport"]
