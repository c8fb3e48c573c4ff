// The consume-process-produce worker of exactly_once_worker.py with the Java client: `java -cp … ExactlyOnceWorker BOOTSTRAP NAME=VALUE …`.
// The same lines on stdout and stdin. Ends with 0 when stdin ends, with 3 when it was fenced. Tests run it and kill it.

import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class ExactlyOnceWorker {
    final Map<String, String> settings = new HashMap<>();
    final KafkaProducer<String, String> producer;
    final KafkaConsumer<String, String> consumer;
    final StringBuilder told = new StringBuilder();
    String hold;
    boolean ended;

    public static void main(String[] args) throws Exception {
        try {
            new ExactlyOnceWorker(args).work();
        } catch (Throwable failed) {
            failed.printStackTrace();
            System.out.println("failed " + failed.getClass().getSimpleName());
            System.out.flush();
            Runtime.getRuntime().halt(3);
        }
        Runtime.getRuntime().halt(0);
    }

    ExactlyOnceWorker(String[] args) {
        for (int at = 1; at < args.length; at++) settings.put(args[at].split("=", 2)[0], args[at].split("=", 2)[1]);
        Properties producing = new Properties();
        producing.put("bootstrap.servers", args[0]);
        producing.put("reconnect.backoff.max.ms", 200);
        producing.put("transactional.id", settings.get("transactional"));
        producing.put("transaction.timeout.ms", settings.getOrDefault("timeout", "60000"));
        producer = new KafkaProducer<>(producing, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        Properties consuming = new Properties();
        consuming.put("bootstrap.servers", args[0]);
        consuming.put("reconnect.backoff.max.ms", 200);
        consuming.put("group.id", settings.get("group"));
        consuming.put("isolation.level", "read_committed");
        consuming.put("auto.offset.reset", "earliest");
        consuming.put("enable.auto.commit", "false");
        consuming.put("max.poll.records", 50);
        consuming.put("group.protocol", settings.getOrDefault("protocol", "classic"));
        if (!settings.containsKey("protocol")) {
            consuming.put("session.timeout.ms", settings.containsKey("instance") ? "30000" : settings.getOrDefault("session", "1000"));
            consuming.put("heartbeat.interval.ms", "100");
        }
        if (settings.containsKey("instance")) consuming.put("group.instance.id", settings.get("instance"));
        consumer = new KafkaConsumer<>(consuming, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(settings.get("source")));
    }

    void say(String phase) {
        System.out.println(phase);
        System.out.flush();
    }

    void reach(String phase) throws Exception {
        listen(false);
        say(phase);
        if (phase.equals(hold)) {
            say("held " + phase);
            while (hold != null && !ended) listen(true);
        }
    }

    void listen(boolean wait) throws Exception {
        InputStream in = System.in;
        while (!ended && (wait || in.available() > 0)) {
            int read = in.read();
            if (read < 0) ended = true;
            else if (read != '\n') told.append((char) read);
            else {
                String line = told.toString();
                told.setLength(0);
                hold = line.startsWith("hold ") ? line.substring(5) : null;
                return;
            }
        }
    }

    void work() throws Exception {
        while (!ended) {
            listen(false);
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
            if (records.isEmpty()) continue;
            try {
                process(records);
            } catch (ProducerFencedException | InvalidProducerEpochException | AuthorizationException fatal) {
                throw fatal;
            } catch (KafkaException failed) {
                giveUp(failed);
            }
        }
    }

    void process(ConsumerRecords<String, String> records) throws Exception {
        producer.beginTransaction();
        reach("begun");
        Map<TopicPartition, OffsetAndMetadata> following = new HashMap<>();
        for (ConsumerRecord<String, String> record : records) {
            producer.send(new ProducerRecord<>(settings.get("target"), record.partition(), null, "[" + record.value() + "]"));
            following.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        producer.flush();
        reach("written");
        producer.sendOffsetsToTransaction(following, consumer.groupMetadata());
        reach("prepared");
        while (true) {
            try {
                producer.commitTransaction();
                break;
            } catch (TimeoutException again) {
                say("again");
            }
        }
        reach("committed");
    }

    void giveUp(KafkaException failed) {
        producer.abortTransaction();
        say("aborted " + failed.getClass().getSimpleName());
        Set<TopicPartition> assigned = consumer.assignment();
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(assigned);
        for (TopicPartition partition : assigned) consumer.seek(partition, committed.get(partition) == null ? 0 : committed.get(partition).offset());
    }
}
