// The Java client in the client matrix, run from its source: `java -cp … MatrixClient.java BOOTSTRAP produce|consume|groups|admin`.
// Records are lines of columns with tabs between on stdin and stdout; bytes are base64 after a dot, null is a minus.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class MatrixClient {
    static final long SECONDS_MAX = 60;
    static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        List<String[]> lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))
            .lines().map(line -> line.split("\t", -1)).collect(Collectors.toList());
        switch (args[1]) {
            case "produce": produce(args[0], lines); break;
            case "consume": consume(args[0], lines); break;
            default: throw new IllegalArgumentException(args[1]);
        }
        OUT.flush();
    }

    static Properties properties(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return properties;
    }

    // Topic, codec, timestamp, key, value, then name and value of each header.
    static void produce(String bootstrap, List<String[]> lines) throws Exception {
        Map<String, List<String[]>> codecs = new LinkedHashMap<>();
        for (String[] line : lines) codecs.computeIfAbsent(line[1], codec -> new ArrayList<>()).add(line);
        for (Map.Entry<String, List<String[]>> entry : codecs.entrySet()) {
            Properties properties = properties(bootstrap);
            properties.put("compression.type", entry.getKey());
            properties.put("linger.ms", "50");
            properties.put("batch.size", "1000000");
            try (KafkaProducer<byte[], byte[]> producer =
                    new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
                List<Future<RecordMetadata>> futures = new ArrayList<>();
                for (String[] line : entry.getValue()) {
                    List<Header> headers = new ArrayList<>();
                    for (int at = 5; at < line.length; at += 2)
                        headers.add(new RecordHeader(new String(told(line[at]), StandardCharsets.UTF_8), told(line[at + 1])));
                    futures.add(producer.send(new ProducerRecord<>(
                        line[0], 0, Long.valueOf(line[2]), told(line[3]), told(line[4]), headers)));
                }
                for (Future<RecordMetadata> future : futures) future.get();
            }
        }
    }

    // Topic, count.
    static void consume(String bootstrap, List<String[]> lines) {
        Properties properties = properties(bootstrap);
        properties.put("auto.offset.reset", "earliest");
        Map<String, Integer> missing = new HashMap<>();
        for (String[] line : lines) missing.put(line[0], Integer.valueOf(line[1]));
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(missing.keySet().stream().map(topic -> new TopicPartition(topic, 0)).collect(Collectors.toList()));
            long deadline = System.nanoTime() + SECONDS_MAX * 1_000_000_000;
            while (!missing.isEmpty()) {
                if (System.nanoTime() > deadline) throw new IllegalStateException("records are missing: " + missing);
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (!missing.containsKey(record.topic())) throw new IllegalStateException("more than was written: " + record);
                    missing.computeIfPresent(record.topic(), (topic, count) -> count == 1 ? null : count - 1);
                    print(record);
                }
            }
        }
    }

    static void print(ConsumerRecord<byte[], byte[]> record) {
        StringBuilder line = new StringBuilder(record.topic());
        line.append('\t').append(record.offset()).append('\t').append(record.timestamp());
        line.append('\t').append(tell(record.key())).append('\t').append(tell(record.value()));
        for (Header header : record.headers())
            line.append('\t').append(tell(header.key().getBytes(StandardCharsets.UTF_8))).append('\t').append(tell(header.value()));
        OUT.println(line);
    }

    static String tell(byte[] data) {
        return data == null ? "-" : "." + Base64.getEncoder().encodeToString(data);
    }

    static byte[] told(String text) {
        return text.equals("-") ? null : Base64.getDecoder().decode(text.substring(1));
    }
}
