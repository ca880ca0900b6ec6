from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0005_names'),
    ]

    operations = [
        migrations.AddField(
            model_name='ticket',
            name='gone_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
