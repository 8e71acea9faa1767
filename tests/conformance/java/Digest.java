import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;

/** Hashes a partition's records; ../librdkafka/digest.py says which bytes go in. */
final class Digest {
    long count;
    private final MessageDigest records = sha256();
    private final MessageDigest timestamps = sha256();

    void add(byte[] key, byte[] value, Headers headers, long timestamp) {
        bytes(key);
        bytes(value);
        u32(headers.toArray().length);
        for (Header header : headers) {
            bytes(header.key().getBytes(StandardCharsets.UTF_8));
            bytes(header.value());
        }
        timestamps.update(ByteBuffer.allocate(8).putLong(timestamp).array());
        count++;
    }

    /** Ends the digest: it cannot be added to any more. */
    String text() {
        HexFormat hex = HexFormat.of();
        return count + " " + hex.formatHex(records.digest()) + " " + hex.formatHex(timestamps.digest());
    }

    private void bytes(byte[] content) {
        if (content == null) {
            u32(-1);
        } else {
            u32(content.length);
            records.update(content);
        }
    }

    private void u32(int number) {
        records.update(ByteBuffer.allocate(4).putInt(number).array());
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException impossible) {
            throw new AssertionError("every JDK has SHA-256", impossible);
        }
    }
}
