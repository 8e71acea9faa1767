import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.server.config.AbstractKafkaConfig;
import org.apache.kafka.storage.internals.log.LogConfig;

/** Prints the configs of a broker or of a topic that Kafka itself describes, one a line: all but internal ones. */
public final class ConfigNames {
    public static void main(String[] args) {
        ConfigDef configs = switch (args[0]) {
            case "brokers" -> AbstractKafkaConfig.CONFIG_DEF;
            case "topics" -> LogConfig.configDefCopy();
            default -> throw new IllegalArgumentException(args[0]);
        };
        for (ConfigDef.ConfigKey config : configs.configKeys().values()) {
            if (!config.internalConfig) {
                System.out.println(config.name);
            }
        }
    }
}
