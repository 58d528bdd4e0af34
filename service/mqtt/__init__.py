"""What streams see, published to an MQTT broker, for Home Assistant and others (docs/mqtt.md). An extra: paho-mqtt."""
